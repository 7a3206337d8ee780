#include "cli/verbs/report/report_markdown.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/verbs/report/markdown.h"
#include "cli/verbs/report/report_text.h"
#include "lutsmith/version.h"

namespace lutsmith::cli {
namespace {

std::string changes_section(const TuningReport& report) {
  std::string text = fmt::format(
      "## Changes\n\nAgainst {}: {}. Slower or faster is what moved by more than the noise of both and than "
      "{}; "
      "uncertain, where one of the two was measured on a GPU that was not idle.\n\n",
      markdown_text(report.against->file), changes_summary(report), percent_text(report.against->tolerance));
  MarkdownTable table({"Shape", " Before, µs", " Now, µs", "Change"});
  const auto changed = changed_shapes(report);
  for (const ReportShape* shape : changed) {
    table.add({shape_name(shape->entry->spec), microseconds_text(shape->change->before_microseconds),
               microseconds_text(shape->microseconds()), change_text(*shape)});
  }
  if (!changed.empty()) text += table.text + "\n";
  if (!report.against->gone.empty()) {
    std::vector<std::string> names;
    for (const auto& [gpu, name] : report.against->gone) names.push_back(name);
    text += fmt::format("Gone: {}.\n\n", fmt::join(names, "; "));
  }
  return text;
}

std::string model_section(const TuningReport& report, const ReportModel& model) {
  std::string text = fmt::format("### {}, {}, {}\n\n", model_text(model), model.weights,
                                 markdown_text(report.gpu(model.gpu).name));
  MarkdownTable steps({" m", " Tuned, µs", " Default, µs", " Floor, µs", " fp16, µs", " Per token, µs"});
  std::vector<std::string> titles{"Layer", "N x K", " Launches"};
  for (const ModelStep& step : model.steps) {
    steps.add({fmt::to_string(step.m), microseconds_text(step.microseconds),
               microseconds_text(step.default_microseconds), microseconds_text(step.floor_microseconds),
               microseconds_text(step.fp16_microseconds),
               microseconds_text(step.microseconds / static_cast<double>(step.m))});
    titles.push_back(fmt::format(" m = {}: µs, of the floor", step.m));
  }
  MarkdownTable layers(titles);
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    const ReportLayer& layer = model.layers[i];
    std::vector<std::string> cells{layer.name, fmt::format("{} x {}", layer.n, layer.k),
                                   fmt::to_string(model.steps.front().layers[i].launches)};
    for (const ModelStep& step : model.steps) {
      const ReportShape& shape = report.shapes[step.layers[i].shape];
      cells.push_back(fmt::format("{}, {}", microseconds_text(shape.microseconds()),
                                  percent_text(shape.floor_share(), 0)));
    }
    layers.add(cells);
  }
  return text + steps.text + "\n" + layers.text + "\n";
}

std::string shapes_section(const TuningReport& report) {
  std::string text = "## Shapes\n\n";
  MarkdownTable table({"Shape", "GPU", " µs", " Partitions", "Schedule", " Saved", " Noise", " Floor, µs",
                       " fp16, µs", " Regret", "Quality", "Change"});
  for (const ReportShape& shape : report.shapes) {
    const choices::Entry& entry = *shape.entry;
    table.add(
        {shape_name(entry.spec), report.gpu(shape.gpu).name, microseconds_text(shape.microseconds()),
         fmt::to_string(entry.choice.partitions), lutsmith::describe(entry.schedules[entry.choice.schedule]),
         shape.replaces_default() ? percent_text(shape.saved()) : "-", percent_text(entry.noise),
         microseconds_text(shape.floor_microseconds), microseconds_text(entry.fp16_microseconds),
         percent_text(shape.regret()), choices::describe_quality(entry.conditions), change_text(shape)});
  }
  return text + table.text + "\n";
}

std::string candidates_section(const TuningReport& report) {
  std::string text = "## Candidates\n\nEach schedule with its best number of partitions.\n\n";
  for (const ReportShape& shape : report.shapes) {
    const choices::Entry& entry = *shape.entry;
    text += fmt::format("**{}**{}\n\n", shape_name(entry.spec),
                        shape.layers.empty() ? "" : fmt::format(" ({})", fmt::join(shape.layers, ", ")));
    MarkdownTable table({"Schedule", " Partitions", " µs", "Slower by"});
    for (const Contender& each : shape.contenders) {
      const bool chosen = each.best.schedule == entry.choice.schedule;
      table.add({lutsmith::describe(entry.schedules[each.best.schedule]),
                 fmt::to_string(each.best.partitions), microseconds_text(each.best.microseconds),
                 chosen ? "chosen" : percent_text(each.slower)});
    }
    text += table.text + "\n";
    for (const choices::Failure& each : entry.failures) {
      text += fmt::format("Not usable: {} ({})\n\n", lutsmith::describe(entry.schedules[each.schedule]),
                          markdown_text(each.reason));
    }
  }
  return text;
}

std::string range_text(const MeasuredOn::Range& range, std::string_view unit) {
  if (!range) return "-";
  if (range->first == range->second) return fmt::format("{:.0f} {}", range->first, unit);
  return fmt::format("{:.0f} to {:.0f} {}", range->first, range->second, unit);
}

std::string machines_section(const TuningReport& report) {
  std::string text = "## Where this was measured\n\n";
  MarkdownTable table({"GPU", " Shapes", "From", "To", "Driver", "Compiler", "lutsmith", "Clock",
                       "Memory clock", "Power", "Temperature"});
  for (const MeasuredOn& each : machines(report)) {
    table.add({choices::describe(report.gpu(each.gpu)), fmt::to_string(each.shapes), each.first, each.last,
               each.driver, each.compiler, each.library, range_text(each.clock_mhz, "MHz"),
               range_text(each.memory_clock_mhz, "MHz"), range_text(each.power_watts, "W"),
               range_text(each.temperature_celsius, "°C")});
  }
  return text + table.text;
}

}  // namespace

std::string report_markdown(const TuningReport& report) {
  std::string text = "# Tuned choices\n\n";
  for (std::size_t i = 0; i < report.tuned.documents.size(); ++i) {
    text += fmt::format("{}\n\n", markdown_text(choices::describe(report.gpu(i))));
  }
  for (const std::string& line : summary_lines(report)) text += fmt::format("- {}\n", line);
  text += "\n";
  if (report.against) text += changes_section(report);
  if (!report.models.empty()) {
    text += "## Models\n\nOne pass of m tokens through all linear layers of one GPU's share.\n\n";
  }
  for (const ReportModel& model : report.models) text += model_section(report, model);
  text += shapes_section(report) + candidates_section(report) + machines_section(report);
  return text + fmt::format("\nWritten by lutsmith {} from {}.\n", LUTSMITH_VERSION_STRING,
                            markdown_text(fmt::format("{}", fmt::join(report.tuned.sources, ", "))));
}

}  // namespace lutsmith::cli
