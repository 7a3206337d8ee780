#pragma once

#include <functional>

#include "emulator/device/machine.h"
#include "emulator/global_memory.h"
#include "lutsmith/error.h"

namespace lutsmith::emulator {

/// In which order the blocks of a grid run. A right kernel gives the same bits in each. Those of a cluster
/// always run together, thread by thread in turns.
enum class BlockOrder {
  ascending,    ///< one cluster after another, first to last
  descending,   ///< one cluster after another, last to first
  interleaved,  ///< several at a time, thread by thread in turns
};

struct GridShape {
  int blocks = 1;
  int threads = 32;      ///< of a block, a multiple of 32
  int shared_bytes = 0;  ///< of a block
  bool dependent_launch = false;
  int cluster_blocks = 1;  ///< of a cluster: 1 to 8, a divisor of all blocks
};

/// Runs a grid: calls `thread` once for each thread of each block, all threads of a block as fibers of the
/// calling thread. Errors: invalid_argument for a shape that no grid has; kernel_fault, which says which
/// thread of which block did what, at which line of the source, and what is wrong with it; the grid has
/// stopped there. What `thread` throws comes out of here.
Result<void> run_grid(const GridShape& shape, const Regions& regions, BlockOrder order,
                      const std::function<void(Machine&)>& thread);

}  // namespace lutsmith::emulator
