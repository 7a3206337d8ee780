#pragma once

#include <optional>
#include <string>

#include "cli/verbs/report/report_json.h"
#include "cli/verbs/report/tuning_report.h"

namespace lutsmith::cli {

// What the Markdown and the terminal say in the same words.

/// 4.8 -> "4.80", 480.3 -> "480"; "-" for nothing.
std::string microseconds_text(std::optional<double> time);
/// 0.0461 -> "4.6 %".
std::string percent_text(double part, int digits = 1);
/// 2.61 -> "2.6x"; "-" for nothing.
std::string times_text(std::optional<double> factor);
/// "as before", "slower 7.0 %", "new".
std::string change_text(const ReportShape& shape);
/// "llama3.1-8b, mistral-7b tp2".
std::string model_text(const ReportModel& model);
/// Shapes whose time moved, without new ones: regressions first, the largest change first.
std::vector<const ReportShape*> changed_shapes(const TuningReport& report);
/// "2 slower, 1 faster, 90 as before, 2 new, 1 gone".
std::string changes_summary(const TuningReport& report);
/// A sentence for each figure over all shapes.
std::vector<std::string> summary_lines(const TuningReport& report);

/// A few lines for a terminal or the log of a build, on standard output.
void print_report(const TuningReport& report);

}  // namespace lutsmith::cli
