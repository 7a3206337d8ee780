#include <fmt/format.h>

#include <memory>
#include <span>

#include "cli/command.h"
#include "cli/output/output.h"
#include "cli/output/write_file.h"
#include "cli/verbs/report/bench_documents.h"
#include "cli/verbs/report/bench_report.h"
#include "cli/verbs/report/bench_report_json.h"
#include "cli/verbs/report/bench_report_text.h"
#include "cli/verbs/report/documents.h"
#include "cli/verbs/report/report_html.h"
#include "cli/verbs/report/report_json.h"
#include "cli/verbs/report/report_markdown.h"
#include "cli/verbs/report/report_text.h"
#include "cli/verbs/report/tuning_report.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

struct ReportArguments {
  std::vector<std::string> files;
  std::string html;
  std::string markdown;
  std::string against;
  std::vector<std::string> models;
  double tolerance_percent = 2;
};

Result<void> write_text(const std::string& path, const std::string& text) {
  return write_file(path, std::as_bytes(std::span(text)));
}

Result<TuningReport> read_report(const ReportArguments& arguments) {
  const ReportOptions options{.models = arguments.models, .tolerance = arguments.tolerance_percent / 100};
  TunedDocuments tuned;
  if (arguments.files.empty()) {
    tuned = known_documents();
  } else {
    Result<TunedDocuments> read = read_documents(arguments.files);
    if (!read) return failure(read);
    tuned = *std::move(read);
  }
  Result<TuningReport> report = make_report(std::move(tuned), options);
  if (!report || arguments.against.empty()) return report;
  Result<choices::Document> older = read_choices(arguments.against);
  if (!older) return failure(older);
  if (Result<void> compared = compare(*report, *older, arguments.against, options); !compared) {
    return failure(compared);
  }
  return report;
}

/// Writes and prints a report of either kind; `html` makes a page of its data.
template <class Report>
Result<void> show(const Report& report, std::string (*html)(const Json&), const ReportArguments& arguments,
                  bool json) {
  if (json || !arguments.html.empty()) {
    const Json data = to_json(report);
    if (!arguments.html.empty()) {
      if (auto written = write_text(arguments.html, html(data)); !written) return failure(written);
    }
    if (json) print_json(data);
  }
  if (!arguments.markdown.empty()) {
    if (auto written = write_text(arguments.markdown, report_markdown(report)); !written) {
      return failure(written);
    }
  }
  if (json) return {};
  print_report(report);
  for (const std::string& path : {arguments.html, arguments.markdown}) {
    if (!path.empty()) print_output(fmt::format("written: {}\n", path));
  }
  return {};
}

Result<ExitCode> run_bench_report(const std::vector<BenchFile>& files, const ReportArguments& arguments,
                                  bool json) {
  if (!arguments.against.empty()) {
    return refuse(
        "against: compares tuned choices; there is nothing to compare times of `lutsmith bench` with",
        "leave out --against; of two documents of one GPU the later one's rows take the place of the "
        "earlier one's");
  }
  Result<BenchDocuments> documents = read_bench_documents(files);
  if (!documents) return failure(documents);
  Result<BenchReport> report = make_bench_report(*std::move(documents), arguments.models);
  if (!report) return failure(report);
  if (Result<void> shown = show(*report, bench_html, arguments, json); !shown) return failure(shown);
  return ExitCode::success;
}

Result<ExitCode> run_report(const ReportArguments& arguments, bool json) {
  Result<std::vector<BenchFile>> bench = find_bench_files(arguments.files);
  if (!bench) return failure(bench);
  if (!bench->empty()) return run_bench_report(*bench, arguments, json);
  Result<TuningReport> report = read_report(arguments);
  if (!report) return failure(report);
  if (Result<void> shown = show(*report, report_html, arguments, json); !shown) return failure(shown);
  return report->count_changes(ChangeKind::slower) > 0 ? ExitCode::work_failed : ExitCode::success;
}

}  // namespace

void add_report(CLI::App& app, Context& context) {
  const auto arguments = std::make_shared<ReportArguments>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "report",
       .description = "Show what was tuned or measured, why, and what changed; needs no GPU",
       .examples =
           "  lutsmith report --html report.html                  (what this machine knows)\n"
           "  lutsmith report nvidia-h100-80gb-hbm3-132.v1.json --markdown report.md\n"
           "  lutsmith report --model llama3.1-8b --json\n"
           "  lutsmith report new.json --against old.json          (in a build: fails where something is "
           "slower)\n"
           "  lutsmith report times.json --html times.html         (what `lutsmith bench --json` printed)\n"
           "The HTML page is one file that loads nothing. A document of tuned choices is what `lutsmith "
           "tune`\n"
           "writes; several of one GPU are shown as one, of two entries for a shape the one measured last.\n"
           "Of what `lutsmith bench` prints the report is one of times over the number of tokens.\n"
           "With --against the exit code is 1 where a shape is slower by more than the noise of both\n"
           "measurements and than --tolerance. What was measured on a GPU that was busy, throttled or noisy "
           "is\n"
           "shown as uncertain, and is no failure.",
       .work = [arguments, &context] { return run_report(*arguments, context.json); }});
  verb.add_option(
          "FILE", arguments->files,
          "Documents of tuned choices, or what `lutsmith bench --json` printed; none: the choices of the "
          "kernel cache and those that come with lutsmith")
      ->type_name("");
  verb.add_option("--html", arguments->html, "Write a page with charts")->type_name("FILE");
  verb.add_option("--markdown", arguments->markdown, "Write tables in Markdown")->type_name("FILE");
  CLI::Option* against = verb.add_option("--against", arguments->against,
                                         "An older document: mark what became slower or faster");
  against->type_name("FILE");
  verb.add_option("--tolerance", arguments->tolerance_percent,
                  "With --against: percent by which two runs of one machine may differ")
      ->check(CLI::Range(0.0, 1000.0))
      ->needs(against)
      ->capture_default_str()
      ->type_name("PERCENT");
  verb.add_option("--model", arguments->models, "Only these models and their shapes")
      ->delimiter(',')
      ->type_name("LIST");
}

}  // namespace lutsmith::cli
