#include <fmt/format.h>
#include <algorithm>
#include <cmath>

#include "cli/verbs/report/tuning_report.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

/// Two runs agree if they differ by no more than what each run's repeats differed by, or by what two runs of
/// one machine may differ by whatever their repeats say.
ChangeKind change_kind(const choices::Entry& now, const choices::Entry& before, double tolerance) {
  const double ratio = now.choice.microseconds / before.choice.microseconds;
  const double allowed = std::max(tolerance, now.noise + before.noise);
  if (std::abs(ratio - 1) <= allowed) return ChangeKind::same;
  const auto idle = [](const choices::Entry& entry) {
    return entry.conditions.quality == choices::Quality::good;
  };
  if (!idle(now) || !idle(before)) return ChangeKind::uncertain;
  return ratio > 1 ? ChangeKind::slower : ChangeKind::faster;
}

}  // namespace

std::string_view to_string(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::same:
      return "same";
    case ChangeKind::slower:
      return "slower";
    case ChangeKind::faster:
      return "faster";
    case ChangeKind::uncertain:
      return "uncertain";
    case ChangeKind::added:
      return "new";
  }
  return "unknown";
}

std::optional<double> ReportShape::change_ratio() const {
  if (!change || !change->before_microseconds) return std::nullopt;
  return microseconds() / *change->before_microseconds;
}

std::size_t TuningReport::count_changes(ChangeKind kind) const {
  return static_cast<std::size_t>(std::ranges::count_if(
      shapes, [&](const ReportShape& shape) { return shape.change && shape.change->kind == kind; }));
}

Result<void> compare(TuningReport& report, const choices::Document& older, std::string file,
                     const ReportOptions& options) {
  const auto& documents = report.tuned.documents;
  const auto same_gpu = std::ranges::find(documents, older.gpu(), &choices::Document::gpu);
  if (same_gpu == documents.end()) {
    std::string known;
    for (const choices::Document& each : documents) {
      known += (known.empty() ? "" : "; ") + choices::describe(each.gpu());
    }
    return refuse(
        fmt::format("against: {} is of {}, and there is nothing of that GPU to compare with; there is: {}",
                    file, choices::describe(older.gpu()), known));
  }
  const auto gpu = static_cast<std::size_t>(same_gpu - documents.begin());
  for (ReportShape& shape : report.shapes) {
    if (shape.gpu != gpu) continue;
    const choices::Entry* before = older.find(shape.entry->spec);
    shape.change = before == nullptr ? Change{ChangeKind::added, std::nullopt}
                                     : Change{change_kind(*shape.entry, *before, options.tolerance),
                                              before->choice.microseconds};
  }
  report.against = Comparison{.file = std::move(file), .tolerance = options.tolerance, .gone = {}};
  for (const auto& [name, entry] : older.entries()) {
    if (same_gpu->find(entry.spec) != nullptr) continue;
    // Of a report on some models only what may have been theirs.
    const auto same_layer = [&](const ReportShape& shape) {
      const WeightFormat& format = shape.entry->spec.format;
      return format.n == entry.spec.format.n && format.k == entry.spec.format.k;
    };
    if (!options.models.empty() && std::ranges::none_of(report.shapes, same_layer)) continue;
    report.against->gone.emplace_back(older.gpu(), shape_name(entry.spec));
  }
  return {};
}

}  // namespace lutsmith::cli
