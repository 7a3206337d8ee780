#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/kernel_spec.h"
#include "lutsmith/schedule.h"

namespace lutsmith {

/// Checks every field against the target's limits. The error names the field and what is allowed.
LUTSMITH_API Result<void> validate(const KernelSpec& spec, const Schedule& schedule);

/// Device memory for partial sums: what a launch takes of a workspace, or all there is.
struct WorkspaceSize {
  std::size_t partial_sum_bytes = 0;
  int arrival_counters = 0;  ///< of 32 bits
};

/// The workspace in which every kernel of every family can be launched on a GPU with `multiprocessors` SMs.
LUTSMITH_API WorkspaceSize workspace_size(int multiprocessors);

/// What a launch needs besides its pointers. All of it follows from spec and schedule.
struct LaunchRecipe {
  int threads = 0;       ///< per block
  int shared_bytes = 0;  ///< dynamic shared memory per block
  int tile_rows = 0;
  int tile_tokens = 0;
  std::int64_t row_tiles = 0;  ///< tiles that cover N
  int steps_per_tile = 0;      ///< steps that cover K; the family says how long one is
  int blocks_per_multiprocessor = 1;
  int cluster_blocks = 1;  ///< blocks of a thread block cluster, which share a partition; 1: no clusters
  bool dependent_launch = false;
  int activation_box_tokens = 0;  ///< > 0: X comes through a tensor map, in boxes of so many tokens
  /// > 0: blocks take whole tiles as long as there is one for each, and only the rest is cut, a tile into at
  /// most so many parts. 0: everything is cut alike.
  int most_parts = 0;
  /// Blocks without work may be launched besides, and wait for the launch before like all others.
  bool idle_blocks = false;
  bool whole_tiles_only = false;  ///< nothing is cut: the order of a sum must not depend on the launch
  /// Steps that are done in the time that the partial sums of a cut tile cost.
  int fix_up_steps = 0;
  WorkspaceSize workspace_per_partition = {};
};

/// Stream-K: the (tile, step) pairs in tile-major order are cut into contiguous ranges, one for each of
/// `sharing` thread blocks, or clusters of them. Cuts fall on multiples of `steps_per_grain` steps: a whole
/// tile where that balances as well (no partial sums then), else one step. Every range has
/// `grains_per_partition` grains, and `extra_grains` of them one more: the first, or where the recipe has
/// most_parts, spread evenly.
///
/// That is all for most recipes, and all blocks share. With most_parts, block p first takes a range of the
/// last tiles, those that are left over, if it is one of the sharing, and then the whole tiles p, p +
/// partitions, ..., `whole_tiles` of them: what blocks do at the same time lies together, so they find its X
/// and weights in L2.
struct Partition {
  int partitions = 0;  ///< thread blocks, or clusters of them
  int steps_per_grain = 0;
  int grains_per_partition = 0;
  int extra_grains = 0;
  int whole_tiles = 0;
  int sharing = 0;
  /// Blocks besides, without work, where the recipe allows them: one for every multiprocessor that has none.
  /// Else two blocks of the next launch, which comes before this one has ended, would meet on such a
  /// multiprocessor, and the launch would take as long as they do together.
  int idle = 0;
};

/// How many partitions run at the same time.
LUTSMITH_API int resident_partitions(const LaunchRecipe& recipe, int multiprocessors);

/// The partition for `m` tokens on a GPU with `multiprocessors` SMs. `wanted` > 0 overrides the
/// number of partitions; it is cut to what exists (1 .. the number of steps). Error where the product
/// has more steps than a launch can count (2^30), or m is below 1.
LUTSMITH_API Result<Partition> partition(const LaunchRecipe& recipe, std::int64_t m, int multiprocessors,
                                         int wanted = 0);

/// A self-contained CUDA C++ translation unit: no include, one extern "C" kernel.
struct Source {
  std::string text;
  std::string kernel_name;
  LaunchRecipe launch;
};

/// Candidate schedules of all families of kernels, best guess first: an analytic model of bytes, waves and
/// fix-up. Depends on the spec alone, so a cache warmed without a GPU serves one with it; and of its `m` on
/// the bucket.
LUTSMITH_API Result<std::vector<Schedule>> schedules(const KernelSpec& spec);

/// The source for a spec under a schedule. Pure: the same arguments give the same text.
LUTSMITH_API Result<Source> render(const KernelSpec& spec, const Schedule& schedule);

}  // namespace lutsmith
