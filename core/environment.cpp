#include "core/environment.h"

#include <cstdlib>

namespace lutsmith::core {

std::string environment_variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): read only
  return value != nullptr ? value : "";
}

}  // namespace lutsmith::core
