#include "cli/open_service.h"

#include <string>

#include "cli/output/output.h"

namespace lutsmith::cli {

Result<Service> open_service(ServiceOptions options) {
  options.log = [](LogLevel level, std::string_view message) {
    if (level == LogLevel::warning) print_warning(std::string(message));
  };
  return Service::open(std::move(options));
}

const char* cache_outcome(Origin origin) { return origin == Origin::compiled ? "miss" : "hit"; }

}  // namespace lutsmith::cli
