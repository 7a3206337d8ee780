#include "cli/open_service.h"

#include <string>
#include <utility>

#include "cache/stores/remote_store.h"
#include "cli/output/output.h"

namespace lutsmith::cli {

Result<Service> open_service(ServiceOptions options) {
  options.log = [](LogLevel level, std::string_view message) {
    if (level == LogLevel::warning) print_warning(std::string(message));
  };
  return Service::open(std::move(options));
}

std::unique_ptr<choices::SharedChoices> open_shared_choices(const cache::Places& places) {
  if (places.remote.url.empty()) return nullptr;
  Result<std::unique_ptr<cache::RemoteStore>> server = cache::RemoteStore::open(places.remote);
  if (!server) return nullptr;
  return std::make_unique<choices::SharedChoices>(
      *std::move(server), [](std::string_view text) { print_warning(std::string(text)); });
}

const char* cache_outcome(Origin origin) { return origin == Origin::compiled ? "miss" : "hit"; }

}  // namespace lutsmith::cli
