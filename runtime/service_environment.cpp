#include "runtime/service_environment.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "core/environment.h"
#include "core/result.h"

namespace lutsmith {

using core::environment_variable;

Result<CompilePolicy> parse_compile_policy(std::string_view name, std::string_view value) {
  if (value.empty() || value == "when-needed") return CompilePolicy::when_needed;
  if (value == "never") return CompilePolicy::never;
  return refuse(fmt::format("{}: '{}' is not known; allowed: when-needed, never", name, value));
}

CompilePolicy chosen_compile_policy(const ServiceOptions& options) {
  if (options.compile) return *options.compile;
  constexpr const char* kVariable = "LUTSMITH_COMPILE";
  const Result<CompilePolicy> named = parse_compile_policy(kVariable, environment_variable(kVariable));
  if (!named && options.log) {
    options.log(LogLevel::warning, named.error().message + "; kernels are compiled when needed");
  }
  return named.value_or(CompilePolicy::when_needed);
}

std::unique_ptr<Recorder> open_recorder(const ServiceOptions& options) {
  const std::filesystem::path file = options.record.empty()
                                         ? std::filesystem::path(environment_variable("LUTSMITH_RECORD"))
                                         : options.record;
  if (file.empty()) return nullptr;
  Result<std::unique_ptr<Recorder>> recorder = Recorder::open(file);
  if (recorder) return *std::move(recorder);
  if (options.log) options.log(LogLevel::warning, recorder.error().message);
  return nullptr;
}

}  // namespace lutsmith
