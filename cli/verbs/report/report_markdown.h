#pragma once

#include <string>

#include "cli/verbs/report/tuning_report.h"

namespace lutsmith::cli {

/// The report as GitHub and others render it: tables instead of charts.
std::string report_markdown(const TuningReport& report);

}  // namespace lutsmith::cli
