#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith {

/// The way of the packed weights from global memory to the warp that uses them.
enum class WeightPath {
  registers,   ///< 16-byte loads into registers, ahead of use
  async_copy,  ///< per-warp ring in shared memory filled by cp.async (any target)
  bulk_copy,   ///< per-warp ring filled by bulk copies with mbarrier completion (sm_90 and later)
};

LUTSMITH_API std::string_view to_string(WeightPath path);
LUTSMITH_API Result<WeightPath> parse_weight_path(std::string_view name);

/// How a kernel does its work. The packed weights are the same for every schedule.
///
/// A thread block owns a tile of `tile_rows` output channels by `tile_tokens` tokens; its warps
/// stand side by side along K, each taking one unit of (tile_rows x 128) weights per step.
struct Schedule {
  int tile_rows = 32;   ///< 16 or 32
  int tile_tokens = 8;  ///< 1, 8 or 16
  int warps = 8;        ///< 1..16
  WeightPath weights = WeightPath::registers;
  int stages = 2;  ///< units a warp holds, under way or in use: 2..3 in registers, 2..8 in a ring
  int blocks_per_multiprocessor = 1;  ///< resident blocks the register budget is cut for: 1..4
  bool dependent_launch = false;      ///< programmatic dependent launch (sm_90 and later)

  friend bool operator==(const Schedule&, const Schedule&) = default;
};

/// One line, such as "rows 32, tokens 8, warps 8, registers x2, 2 blocks/SM, dependent launch".
LUTSMITH_API std::string describe(const Schedule& schedule);

/// Checks every field against the target's limits. The error names the field and what is allowed.
LUTSMITH_API Result<void> validate(const KernelSpec& spec, const Schedule& schedule);

/// What a launch needs besides its pointers. All of it follows from spec and schedule.
struct LaunchRecipe {
  int threads = 0;       ///< per block
  int shared_bytes = 0;  ///< dynamic shared memory per block
  int tile_rows = 0;
  int tile_tokens = 0;
  std::int64_t row_tiles = 0;  ///< tiles that cover N
  int steps_per_tile = 0;      ///< steps of (warps x 128) weights that cover K
  int blocks_per_multiprocessor = 1;
  bool dependent_launch = false;
};

/// Stream-K: the (tile, step) pairs in tile-major order are cut into `partitions` contiguous ranges,
/// one per thread block. Cuts fall on multiples of `steps_per_grain` steps: a whole tile where that
/// balances as well (no partial sums then), else one step. Every partition has `grains_per_partition`
/// grains, the first `extra_grains` of them one more.
struct Partition {
  int partitions = 0;
  int steps_per_grain = 0;
  int grains_per_partition = 0;
  int extra_grains = 0;
};

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

/// Candidate schedules, best guess first: an analytic model of bytes, waves and fix-up.
/// Depends on the spec alone, so a cache warmed without a GPU serves one with it; and of its `m` on the
/// bucket.
LUTSMITH_API Result<std::vector<Schedule>> schedules(const KernelSpec& spec);

/// The source for a spec under a schedule. Pure: the same arguments give the same text.
LUTSMITH_API Result<Source> render(const KernelSpec& spec, const Schedule& schedule);

}  // namespace lutsmith
