#pragma once

// Programmatic dependent launch (sm_90 and later): the next launch of the stream may start while this
// one runs, and fetch what no launch writes: its weights.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// Lets the next launch start as soon as there is room.
template <bool enabled>
__device__ __forceinline__ void release_dependents() {
  if constexpr (enabled) asm volatile("griddepcontrol.launch_dependents;");
}

/// Returns when the launch before has finished and its writes are visible. Everything that launch may
/// write or still read (activations, output, partial sums) is touched after this.
template <bool enabled>
__device__ __forceinline__ void wait_for_dependency() {
  if constexpr (enabled) asm volatile("griddepcontrol.wait;" : : : "memory");
}

}  // namespace lutsmith::device

#endif
