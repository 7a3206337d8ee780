#include "service/service_environment.h"

#include <fmt/format.h>

#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
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

namespace {

/// The value that `text` names. Error: invalid_argument, naming those that are allowed.
template <class Value>
Result<Value> named_value(std::string_view name, std::string_view text,
                          std::initializer_list<std::pair<std::string_view, Value>> names) {
  std::string allowed;
  for (const auto& [known, value] : names) {
    if (text == known) return value;
    allowed += (allowed.empty() ? "" : ", ") + std::string(known);
  }
  return refuse(fmt::format("{}: '{}' is not known; allowed: {}", name, text, allowed));
}

/// Leaves `value` as it is where the variable is not set, or says nothing that is known: `log` is told then.
template <class Value>
void read_variable(const char* name, Result<Value> (*parse)(std::string_view, std::string_view),
                   std::optional<Value>& value, const LogCallback& log) {
  const std::string text = environment_variable(name);
  if (value || text.empty()) return;
  const Result<Value> named = parse(name, text);
  if (named) value = *named;
  if (!named && log) log(LogLevel::warning, named.error().message + "; it is left out");
}

}  // namespace

Result<TuningMode> parse_tuning_mode(std::string_view name, std::string_view value) {
  using enum TuningMode;
  return named_value<TuningMode>(name, value,
                                 {{"off", off}, {"use", use}, {"tune", tune}, {"replay", replay}});
}

Result<MissingChoice> parse_missing_choice(std::string_view name, std::string_view value) {
  using enum MissingChoice;
  return named_value<MissingChoice>(name, value, {{"error", error}, {"model", model}});
}

TuningOptions chosen_tuning(const ServiceOptions& options) {
  TuningOptions chosen = options.tuning;
  read_variable("LUTSMITH_TUNING", parse_tuning_mode, chosen.mode, options.log);
  read_variable("LUTSMITH_TUNING_MISSING", parse_missing_choice, chosen.missing, options.log);
  if (chosen.document.empty()) chosen.document = environment_variable("LUTSMITH_TUNING_FILE");
  if (chosen.gpu.empty()) chosen.gpu = environment_variable("LUTSMITH_GPU");
  return chosen;
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
