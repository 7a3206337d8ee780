#pragma once

#include <string>

#include "cli/output/output.h"

namespace lutsmith::cli {

// Pages that need nothing but themselves: the data of a report (to_json), what draws it, and Vega.

/// Of a report on tuned choices.
std::string report_html(const Json& report);
/// Of one on what `lutsmith bench` measured.
std::string bench_html(const Json& report);

}  // namespace lutsmith::cli
