#include "core/shared_library.h"

#include <fmt/format.h>

namespace lutsmith::core {

Result<SharedLibrary> SharedLibrary::open(const std::string& name) {
  if (void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return SharedLibrary(handle, name);
  const char* reason = dlerror();  // NOLINT(concurrency-mt-unsafe): glibc keeps one for each thread
  return std::unexpected(Error{ErrorCode::not_found, reason != nullptr ? reason : name, ""});
}

Result<SharedLibrary> SharedLibrary::open(std::initializer_list<const char*> names,
                                          const std::string& purpose, const std::string& package) {
  std::string reasons;
  for (const char* name : names) {
    Result<SharedLibrary> library = open(name);
    if (library) return library;
    reasons += library.error().message + "\n";
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
