#pragma once

#include <string>

#include "cli/output/output.h"

namespace lutsmith::cli {

/// One page that needs nothing but itself: the data of a report (to_json), what draws it, and Vega.
std::string report_html(const Json& report);

}  // namespace lutsmith::cli
