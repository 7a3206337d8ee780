#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/places.h"
#include "choices/database.h"
#include "choices/shared_choices.h"
#include "cli/command.h"
#include "cli/open_service.h"
#include "cli/options/spec_options.h"
#include "cli/output/kernel_json.h"
#include "cli/output/output.h"
#include "cli/output/progress.h"
#include "cli/verbs/tune/regret.h"
#include "cli/verbs/warm/warm_requests.h"
#include "core/result.h"
#include "runtime/compile_jobs.h"
#include "tuning/campaign.h"
#include "tuning/fit.h"
#include "tuning/gpu_workbench.h"

namespace lutsmith::cli {
namespace {

struct TuneOptions {
  SpecOptions spec;
  std::string manifest;
  std::string output;
  double budget = 0;
  bool again = false;
  bool dry_run = false;
  bool force = false;
  bool evaluate_model = false;
  std::vector<std::string> fit;

  TuneOptions() { spec.text["m"] = "1,8,16,32"; }
};

/// What a spec takes on an H100 with 16 cores beside it, for --dry-run.
constexpr double kSecondsPerSpec = 2;

Result<std::vector<KernelSpec>> requested_specs(const TuneOptions& options, const Target& gpu) {
  SpecOptions given = options.spec;
  if (given.text["target"] == "native") given.text["target"] = gpu.name();
  Result<std::vector<KernelRequest>> requests = warm_requests(given, options.manifest);
  if (!requests) return failure(requests);
  std::vector<KernelSpec> specs;
  for (const KernelRequest& request : *requests) {
    if (request.spec.target != gpu) {
      return refuse(fmt::format("target: tune measures on this machine's GPU, which is {} and not {}",
                                gpu.name(), request.spec.target.name()));
    }
    specs.push_back(request.spec);
  }
  return specs;
}

/// What stands in the way of measuring on this GPU; nothing: all is well.
std::optional<std::string> disturbance(const choices::Conditions& conditions) {
  if (conditions.other_processes.value_or(0) > 0) {
    return fmt::format("{} other process{} use{} the GPU", *conditions.other_processes,
                       *conditions.other_processes == 1 ? "" : "es",
                       *conditions.other_processes == 1 ? "s" : "");
  }
  if (!conditions.throttled_by.empty()) {
    return fmt::format("the GPU has lowered its clocks ({})", conditions.throttled_by);
  }
  return std::nullopt;
}

/// With `force`, what stands in the way is only told.
Result<void> check_conditions(const choices::Conditions& conditions, bool force) {
  const std::optional<std::string> disturbed = disturbance(conditions);
  if (!disturbed) return {};
  if (!force) {
    return std::unexpected(Error{
        ErrorCode::unsupported,
        fmt::format("{}: times would not be worth much; wait, or measure all the same with --force, which "
                    "marks the results",
                    *disturbed),
        ""});
  }
  print_warning(*disturbed);
  return {};
}

std::string step_text(const tuning::CampaignStep& step) {
  if (step.error != nullptr) return describe(*step.spec) + ": failed: " + step.error->message;
  if (step.entry != nullptr) {
    return fmt::format("{}: {:.2f} us, default {:.2f}", describe(*step.spec), step.entry->choice.microseconds,
                       step.entry->standard.microseconds);
  }
  const std::string best =
      step.doing.best_microseconds > 0 ? fmt::format(", best {:.2f} us", step.doing.best_microseconds) : "";
  return fmt::format("{}: {}{}", describe(*step.spec), step.doing.doing, best);
}

Json entry_json(const choices::Entry& entry) {
  return {{"spec", to_json(entry.spec)},
          {"schedule", to_json(entry.schedules[entry.choice.schedule])},
          {"partitions", entry.choice.partitions},
          {"microseconds", entry.choice.microseconds},
          {"default_microseconds", entry.standard.microseconds},
          {"noise", entry.noise},
          {"quality", to_string(entry.conditions.quality)},
          {"power_capped", entry.conditions.power_capped ? Json(*entry.conditions.power_capped) : Json()}};
}

void print_entries(const std::vector<const choices::Entry*>& entries) {
  using enum TextTable::Align;
  TextTable table({{"kernel", left},
                   {"us"},
                   {"default us"},
                   {"gain"},
                   {"of floor"},
                   {"quality", left},
                   {"choice", left}});
  for (const choices::Entry* entry : entries) {
    const double floor = entry->floor_dependent_microseconds.value_or(entry->floor_microseconds);
    table.add_row(
        {describe(entry->spec), fmt::format("{:.2f}", entry->choice.microseconds),
         fmt::format("{:.2f}", entry->standard.microseconds),
         fmt::format("{:.1f} %", 100 * (1 - entry->choice.microseconds / entry->standard.microseconds)),
         floor > 0 ? fmt::format("{:.2f}", entry->choice.microseconds / floor) : "-",
         choices::describe_quality(entry->conditions), describe(entry->chosen())});
  }
  table.print();
}

Result<ExitCode> dry_run(const TuneOptions& options, bool json) {
  TuneOptions here = options;
  if (here.spec.text["target"] == "native") {
    Result<Target> target = native_target();
    if (!target) return failure(target);
    here.spec.text["target"] = target->name();
  }
  Result<std::vector<KernelRequest>> requests = warm_requests(here.spec, here.manifest);
  if (!requests) return failure(requests);
  std::vector<KernelSpec> specs;
  for (const KernelRequest& request : *requests) specs.push_back(request.spec);
  const std::vector<KernelSpec> each = tuning::missing_specs(specs, choices::Document({}));
  std::size_t kernels = 0;
  for (const KernelSpec& spec : each) {
    Result<std::vector<Schedule>> schedules = tuning::schedules_to_measure(spec, {});
    if (!schedules) return failure(schedules);
    kernels += schedules->size();
  }
  const double seconds = kSecondsPerSpec * static_cast<double>(each.size());
  if (json) {
    print_json({{"specs", each.size()}, {"kernels", kernels}, {"seconds", seconds}});
  } else {
    print_output(
        fmt::format("{} to tune, {} to compile, about {} on an H100; what is tuned already takes no time\n",
                    counted(each.size(), "spec"), counted(kernels, "kernel"),
                    duration(std::chrono::duration<double>(seconds))));
  }
  return ExitCode::success;
}

/// Costs that suit documents better than the target's own, for core/target.cpp.
Result<ExitCode> fit(const TuneOptions& options, bool json) {
  std::vector<choices::Document> documents;
  for (const std::string& file : options.fit) {
    Result<choices::Document> document = choices::read_document(file);
    if (!document) return failure(document);
    if (!documents.empty() && document->gpu().target != documents.front().gpu().target) {
      return refuse(
          "fit: the documents are of GPUs of different targets, each of which has costs of its own");
    }
    documents.push_back(*std::move(document));
  }
  const TargetTraits& traits = documents.front().gpu().target.traits();
  const MeasuredCosts fitted = tuning::fit_costs(documents, traits.costs, traits.bytes_per_second);
  const tuning::ModelRegret before = tuning::model_regret(documents, traits.costs, traits.bytes_per_second);
  const tuning::ModelRegret after = tuning::model_regret(documents, fitted, traits.bytes_per_second);
  Json costs = Json::object();
  MeasuredCosts::visit_fields(fitted,
                              [&](std::string_view name, double value) { costs[std::string(name)] = value; });
  if (json) {
    const auto regret_of = [](const tuning::ModelRegret& each) {
      return Json{{"median", each.median}, {"mean", each.mean}, {"worst", each.worst}};
    };
    print_json({{"target", traits.name},
                {"specs", after.specs},
                {"costs", costs},
                {"regret_before", regret_of(before)},
                {"regret_after", regret_of(after)}});
    return ExitCode::success;
  }
  for (const auto& [name, value] : costs.items())
    print_output(fmt::format(".{} = {:.4g},\n", name, value.get<double>()));
  for (const auto& [what, each] : {std::pair("before", before), std::pair("after", after)}) {
    print_output(
        fmt::format("{}: first choice over the best of {}: median {:.1f} %, mean {:.1f} %, worst {:.1f} %\n",
                    what, counted(each.specs, "spec"), 100 * each.median, 100 * each.mean, 100 * each.worst));
  }
  return ExitCode::success;
}

/// What came of a campaign.
struct Outcome {
  tuning::CampaignSummary summary;
  std::size_t received = 0;  ///< taken from the server
  std::vector<const choices::Entry*> entries;
  std::vector<std::pair<KernelSpec, Error>> failures;
  std::filesystem::path document;
};

Json outcome_json(const Outcome& outcome, const choices::Gpu& gpu, bool evaluate_model) {
  Json document{{"gpu", gpu.name},
                {"multiprocessors", gpu.multiprocessors},
                {"requested", outcome.summary.requested},
                {"present", outcome.summary.present},
                {"received", outcome.received},
                {"tuned", outcome.summary.tuned},
                {"failed", outcome.summary.failed},
                {"left", outcome.summary.left},
                {"seconds", outcome.summary.seconds},
                {"document", outcome.document.string()}};
  document["entries"] = Json::array();
  for (const choices::Entry* entry : outcome.entries) document["entries"].push_back(entry_json(*entry));
  if (evaluate_model) document["model"] = regret_json(regret(outcome.entries));
  return document;
}

void print_outcome(const Outcome& outcome, bool evaluate_model) {
  const tuning::CampaignSummary& summary = outcome.summary;
  print_entries(outcome.entries);
  for (const auto& [spec, error] : outcome.failures) {
    print_error({error.code, describe(spec) + ": " + error.message, error.context}, /*json=*/false);
  }
  if (evaluate_model) print_regret(regret(outcome.entries));
  print_output(fmt::format(
      "{}: {} tuned in {}, {} known before{}, {} failed{}\n", counted(summary.requested, "spec"),
      summary.tuned, duration(std::chrono::duration<double>(summary.seconds)), summary.present,
      outcome.received > 0 ? fmt::format(" ({} taken from the server)", outcome.received) : "",
      summary.failed, summary.left > 0 ? fmt::format(", {} left for the next time", summary.left) : ""));
  print_output(fmt::format("kept in {}\n", outcome.document.native()));
}

Result<ExitCode> run_tune(const TuneOptions& options, bool json) {
  if (!options.fit.empty()) return fit(options, json);
  if (options.dry_run) return dry_run(options, json);
  Result<Service> service = open_service();
  if (!service) return failure(service);
  Result<std::unique_ptr<tuning::GpuWorkbench>> bench =
      tuning::GpuWorkbench::open(*service, compile_jobs(compile_resources()));
  if (!bench) return failure(bench);
  Result<std::vector<KernelSpec>> specs = requested_specs(options, (*bench)->gpu().target);
  if (!specs) return failure(specs);
  const cache::Places places = cache::places(cache::PlacesEnvironment::of_process());
  const choices::Database database(service->cache_directory(), places.system);
  if (Result<void> quiet = check_conditions((*bench)->conditions(), options.force); !quiet)
    return failure(quiet);

  const choices::Gpu& gpu = (*bench)->gpu();
  const std::unique_ptr<choices::SharedChoices> shared = open_shared_choices(places);
  const std::vector<KernelSpec> buckets = tuning::missing_specs(*specs, choices::Document(gpu));
  const std::size_t received = shared != nullptr ? shared->exchange(database, gpu, buckets) : 0;
  tuning::CampaignOptions campaign{.again = options.again, .shared = shared.get()};
  if (options.budget > 0) campaign.budget = std::chrono::duration<double>(options.budget);
  const choices::Document known = options.again ? choices::Document(gpu) : database.read_own(gpu);
  Progress progress(tuning::missing_specs(*specs, known).size());
  std::vector<std::pair<KernelSpec, Error>> failures;
  Result<tuning::CampaignSummary> summary = tuning::tune_missing(
      **bench, (*bench)->address(), database, *specs, campaign, [&](const tuning::CampaignStep& step) {
        const bool done = step.entry != nullptr || step.error != nullptr;
        if (step.error != nullptr) failures.emplace_back(*step.spec, *step.error);
        if (done) progress.advance(step_text(step));
        if (!done) progress.working_on(step_text(step));
      });
  if (!summary) return failure(summary);

  const choices::Document tuned = database.read_own(gpu);
  std::vector<const choices::Entry*> entries;
  for (const KernelSpec& spec : buckets) {
    if (const choices::Entry* entry = tuned.find(spec)) entries.push_back(entry);
  }
  if (!options.output.empty()) {
    choices::Document chosen(gpu);
    for (const choices::Entry* entry : entries) chosen.put(*entry);
    if (Result<void> written = choices::write_file(options.output, chosen); !written) return failure(written);
  }
  const Outcome outcome{.summary = *summary,
                        .received = received,
                        .entries = std::move(entries),
                        .failures = std::move(failures),
                        .document = database.path_of(gpu)};
  if (json) {
    print_json(outcome_json(outcome, gpu, options.evaluate_model));
  } else {
    print_outcome(outcome, options.evaluate_model);
  }
  return summary->failed > 0 ? ExitCode::work_failed : ExitCode::success;
}

}  // namespace

void add_tune(CLI::App& app, Context& context) {
  const auto options = std::make_shared<TuneOptions>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "tune",
       .description = "Measure which schedule and number of partitions is fastest on this GPU, and keep it",
       .examples =
           "  lutsmith tune --model llama3.1-8b --bits 2,3,4 --m 1,8,16\n"
           "  lutsmith tune --manifest kernels.jsonl --budget 120\n"
           "  lutsmith tune --n 4096 --k 14336 --again --evaluate-model\n"
           "  lutsmith tune --model qwen3-8b --output /models/pinned.json\n"
           "What was tuned is not measured again, and Ctrl-C loses only the spec that is being measured.\n"
           "docs/tuning.md tells what is done with it.",
       .work = [options, &context] { return run_tune(*options, context.json); }});
  verb.add_option("--manifest", options->manifest, "JSON file with a list of specs, as for warm")
      ->type_name("FILE");
  verb.add_option("--budget", options->budget, "Begin no spec after so many seconds")
      ->check(CLI::NonNegativeNumber)
      ->type_name("SECONDS");
  verb.add_flag("--again", options->again, "Measure what is known, too");
  verb.add_flag("--dry-run", options->dry_run, "Only tell how much there is to do");
  verb.add_flag("--force", options->force,
                "Measure on a GPU that is busy or throttled; the results are marked");
  verb.add_flag("--evaluate-model", options->evaluate_model,
                "Tell how far the cost model's first choice is from the best");
  verb.add_option(
          "--fit", options->fit,
          "Measure nothing: print costs for the cost model that suit these documents of tuned choices")
      ->type_name("FILE...");
  verb.add_option("--output", options->output,
                  "Write the choices of these specs to a document of their own, to pin them")
      ->type_name("FILE");
  add_spec_options(verb, options->spec.text);
}

}  // namespace lutsmith::cli
