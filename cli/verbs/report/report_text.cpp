#include "cli/verbs/report/report_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace lutsmith::cli {

std::string microseconds_text(std::optional<double> time) {
  if (!time) return "-";
  return fmt::format("{:.{}f}", *time, *time < 9.995 ? 2 : *time < 99.95 ? 1 : 0);
}

std::string percent_text(double part, int digits) { return fmt::format("{:.{}f} %", 100 * part, digits); }

std::string times_text(std::optional<double> factor) {
  return factor ? fmt::format("{:.1f}x", *factor) : "-";
}

std::string change_text(const ReportShape& shape) {
  if (!shape.change) return {};
  const ChangeKind kind = shape.change->kind;
  if (kind == ChangeKind::same) return "as before";
  const std::optional<double> ratio = shape.change_ratio();
  if (!ratio) return std::string(to_string(kind));
  return fmt::format("{} {}", to_string(kind), percent_text(std::abs(*ratio - 1)));
}

std::string model_text(const ReportModel& model) {
  return fmt::format("{}{}", fmt::join(model.names, ", "),
                     model.tp == 1 ? "" : fmt::format(" tp{}", model.tp));
}

std::vector<const ReportShape*> changed_shapes(const TuningReport& report) {
  std::vector<const ReportShape*> changed;
  for (const ReportShape& shape : report.shapes) {
    const bool moved = shape.change && shape.change->kind != ChangeKind::same;
    if (moved && shape.change->kind != ChangeKind::added) changed.push_back(&shape);
  }
  std::ranges::stable_sort(changed, {}, [](const ReportShape* shape) {
    return std::pair(shape->change->kind, -std::abs(shape->change_ratio().value_or(1) - 1));
  });
  return changed;
}

std::string changes_summary(const TuningReport& report) {
  std::string text;
  using enum ChangeKind;
  for (const ChangeKind kind : {slower, faster, uncertain, same, added}) {
    const std::size_t number = report.count_changes(kind);
    if (number == 0 && (kind == uncertain || kind == added)) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", number,
                        kind == same ? "as before" : to_string(kind));
  }
  if (!report.against->gone.empty()) text += fmt::format(", {} gone", report.against->gone.size());
  return text;
}

std::vector<std::string> summary_lines(const TuningReport& report) {
  const ReportSummary summary = summarize(report);
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{} of {}: another choice than the cost model's default", summary.tuned,
                              counted(summary.shapes, "shape")));
  if (summary.saved) {
    lines.push_back(fmt::format("{} of the default's time saved there (median), at most {}",
                                percent_text(summary.saved->median), percent_text(summary.saved->extreme)));
  }
  lines.push_back(fmt::format("{} of the speed of the floor (median), at least {}",
                              percent_text(summary.floor_share.median, 0),
                              percent_text(summary.floor_share.extreme, 0)));
  if (summary.fp16_speedup) {
    lines.push_back(fmt::format("{} as fast as 16-bit weights (median), at least {}",
                                times_text(summary.fp16_speedup->median),
                                times_text(summary.fp16_speedup->extreme)));
  }
  lines.push_back(
      fmt::format("{} regret of the cost model, its default over the fastest (median), at most {}",
                  percent_text(summary.regret.median), percent_text(summary.regret.extreme)));
  if (report.count_doubtful() > 0) {
    lines.push_back(fmt::format("{} measured on a GPU that was busy, throttled or noisy; measure again",
                                counted(report.count_doubtful(), "shape")));
  }
  if (report.count_power_capped() > 0) {
    lines.push_back(
        fmt::format("{} measured while power-capped: the GPU was at its power limit, which set its clocks",
                    counted(report.count_power_capped(), "shape")));
  }
  return lines;
}

void print_report(const TuningReport& report) {
  for (std::size_t i = 0; i < report.tuned.documents.size(); ++i) {
    print_output(choices::describe(report.gpu(i)) + "\n");
  }
  for (const std::string& line : summary_lines(report)) print_output("  " + line + "\n");

  using enum TextTable::Align;
  TextTable models({{"model", left},
                    {"weights", left},
                    {"m"},
                    {"us/step"},
                    {"default"},
                    {"floor"},
                    {"fp16"},
                    {"us/token"}});
  for (const ReportModel& model : report.models) {
    for (const ModelStep& step : model.steps) {
      models.add_row({model_text(model), model.weights, fmt::to_string(step.m),
                      microseconds_text(step.microseconds), microseconds_text(step.default_microseconds),
                      microseconds_text(step.floor_microseconds), microseconds_text(step.fp16_microseconds),
                      microseconds_text(step.microseconds / static_cast<double>(step.m))});
    }
  }
  models.print();

  if (!report.against) return;
  TextTable changes({{"changed", left}, {"before"}, {"now"}, {"", left}});
  for (const ReportShape* shape : changed_shapes(report)) {
    changes.add_row({shape_name(shape->entry->spec), microseconds_text(shape->change->before_microseconds),
                     microseconds_text(shape->microseconds()), change_text(*shape)});
  }
  changes.print();
  print_output(fmt::format("against {}: {}\n", report.against->file, changes_summary(report)));
}

}  // namespace lutsmith::cli
