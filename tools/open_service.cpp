#include "open_service.h"

#include <string>

#include "output.h"

namespace lutsmith::tools {

Result<Service> open_service(ServiceOptions options) {
  options.log = [](LogLevel level, std::string_view message) {
    if (level == LogLevel::warning) print_warning(std::string(message));
  };
  return Service::open(std::move(options));
}

const char* cache_outcome(Origin origin) { return origin == Origin::compiled ? "miss" : "hit"; }

}  // namespace lutsmith::tools
