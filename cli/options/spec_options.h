#pragma once

#include <CLI/CLI.hpp>

#include "cli/options/schedule_override.h"
#include "cli/options/spec_request.h"

namespace lutsmith::cli {

/// The options that say which kernels are meant: SPEC, shared by all verbs that take one.
struct SpecOptions {
  SpecText text;
  ScheduleOverride schedule;
};

/// Adds SPEC to a verb, without the options for the schedule.
void add_spec_options(CLI::App& verb, SpecText& text);
/// Adds those of its options that say what is made of a product's sums, for one value each.
void add_epilogue_options(CLI::App& verb, SpecText& text);
/// Adds the options that override fields of the schedule.
void add_schedule_options(CLI::App& verb, ScheduleOverride& schedule);
/// Both.
void add_spec_options(CLI::App& verb, SpecOptions& options);

}  // namespace lutsmith::cli
