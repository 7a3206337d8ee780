#pragma once

#include <memory>
#include <string_view>

#include "lutsmith/error.h"
#include "lutsmith/service.h"
#include "runtime/recorder.h"

namespace lutsmith {

/// The policy that `value` of the option or variable `name` stands for; nothing is when_needed. Error:
/// invalid_argument.
Result<CompilePolicy> parse_compile_policy(std::string_view name, std::string_view value);

/// The options' policy, else the environment's. `options.log` is told of a value that is not known, which
/// means when_needed.
CompilePolicy chosen_compile_policy(const ServiceOptions& options);

/// What `value` of the option or variable `name` stands for. Error: invalid_argument.
Result<TuningMode> parse_tuning_mode(std::string_view name, std::string_view value);
Result<MissingChoice> parse_missing_choice(std::string_view name, std::string_view value);

/// The options' tuning, and the environment's where they say nothing. `options.log` is told of values that
/// are not known, which mean the default.
TuningOptions chosen_tuning(const ServiceOptions& options);

/// The recorder that options or environment (LUTSMITH_RECORD) ask for; null where neither does, or where the
/// file cannot be used: `options.log` is told.
std::unique_ptr<Recorder> open_recorder(const ServiceOptions& options);

}  // namespace lutsmith
