#pragma once

#include "lutsmith/codegen.h"

namespace lutsmith {

/// Dynamic shared memory of a block, in bytes.
int shared_bytes(const KernelSpec& spec, const Schedule& schedule);

/// Registers a thread needs at least, as counted from the fragments it keeps; a schedule whose limit is
/// below would spill.
int estimated_registers(const KernelSpec& spec, const Schedule& schedule);

/// Registers a thread may use under the schedule's blocks per multiprocessor.
int register_limit(const Schedule& schedule);

/// Of a valid spec and schedule.
LaunchRecipe launch_recipe(const KernelSpec& spec, const Schedule& schedule);

}  // namespace lutsmith
