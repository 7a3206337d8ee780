#include "core/shared_library.h"

#include <fmt/format.h>

namespace lutsmith::core {

Result<SharedLibrary> SharedLibrary::open(std::initializer_list<const char*> names,
                                          const std::string& purpose, const std::string& package) {
  std::string reasons;
  for (const char* name : names) {
    if (void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return SharedLibrary(handle, name);
    if (const char* reason = dlerror())
      reasons += fmt::format("{}\n", reason);  // NOLINT(concurrency-mt-unsafe)
  }
  return std::unexpected(
      Error{ErrorCode::not_found,
            fmt::format("{} is needed to {}; install {}", *names.begin(), purpose, package), reasons});
}

Result<void> SharedLibrary::complete() const {
  if (missing_ == nullptr) return {};
  return std::unexpected(Error{ErrorCode::unsupported,
                               fmt::format("{} has no function {}; install a newer one", name_, missing_),
                               ""});
}

}  // namespace lutsmith::core
