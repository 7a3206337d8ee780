#include "emulator/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "core/result.h"
#include "emulator/fault.h"
#include "emulator/grid_machine.h"

namespace lutsmith::emulator {
namespace {

/// Blocks that run at a time where they interleave.
constexpr std::size_t kResidentBlocks = 4;
/// What every GPU with clusters can launch.
constexpr int kMostClusterBlocks = 8;

/// Thrown in the threads of a grid that has stopped, so that their stacks unwind.
struct Cancelled {};

}  // namespace

Result<void> Grid::run() {
  try {
    run_blocks();
    if (!fault_) global_.check_arrivals();
  } catch (const Fault& fault) {
    fault_ = fault.message();
  } catch (...) {
    failure_ = std::current_exception();
  }
  stop();
  if (failure_) std::rethrow_exception(failure_);
  if (!fault_) return {};
  const std::size_t first_line = std::min(fault_->find('\n'), fault_->size());
  return std::unexpected(Error{ErrorCode::kernel_fault, fault_->substr(0, first_line),
                               fault_->substr(std::min(first_line + 1, fault_->size()))});
}

void Grid::run_blocks() {
  for (admit_blocks(); !blocks_.empty() && !fault_; admit_blocks()) {
    if (run_turns()) continue;
    // Nobody can run before a copy has arrived: the latest moment it may come.
    const auto copying =
        std::ranges::find_if(blocks_, [](const Block& block) { return !block.bulk_copies.empty(); });
    if (copying == blocks_.end()) {
      std::string places;
      for (const Block& block : blocks_) places += block.places();
      throw Fault("deadlock: no thread can go on\n" + places);
    }
    copying->deliver_copy();
  }
}

void Grid::admit_blocks() {
  const auto together = static_cast<std::size_t>(shape_.cluster_blocks);
  const std::size_t most =
      order_ == BlockOrder::interleaved ? std::max(kResidentBlocks, 2 * together) : together;
  while (blocks_.size() + together <= most && admitted_ < shape_.blocks) admit_cluster();
}

/// All blocks of the next one.
void Grid::admit_cluster() {
  const int blocks = shape_.cluster_blocks;
  const auto in_order = [&](int number, int count) {
    return order_ == BlockOrder::descending ? count - 1 - number : number;
  };
  const int index = in_order(admitted_ / blocks, shape_.blocks / blocks);
  const auto cluster = std::make_shared<Cluster>(index, blocks, shape_.threads);
  for (int i = 0; i < blocks; ++i) {
    const ClusterPlace place{in_order(i, blocks), blocks, index * blocks};
    blocks_.emplace_back(cluster, place, shape_.threads, static_cast<std::size_t>(shape_.shared_bytes),
                         !shape_.dependent_launch);
  }
  admitted_ += blocks;
}

/// A turn for every block that has a thread to run; whether there was one.
bool Grid::run_turns() {
  bool ran = false;
  for (auto block = blocks_.begin(); block != blocks_.end() && !fault_;) {
    if (!block->ready.empty()) {
      run_turn(*block);
      ran = true;
    }
    if (block->running == 0 && !fault_) {
      end_block(*block);
      block->cluster->blocks[static_cast<std::size_t>(block->in_cluster.rank)] = nullptr;
      block = blocks_.erase(block);
    } else {
      ++block;
    }
  }
  return ran;
}

void Grid::run_turn(Block& block) {
  Thread& thread = *block.ready.front();
  block.ready.pop_front();
  current_ = &thread;
  if (!thread.fiber) start(thread);
  thread.fiber->resume();
  if (!thread.fiber->ended()) return;
  thread.fiber.reset();
  --block.running;
  block.cluster->end(thread);
}

void Grid::start(Thread& thread) {
  thread.fiber = std::make_unique<Fiber>(stacks_, [this, &thread] {
    try {
      body_(*this);
      if (!thread.open_copies.empty() ||
          std::ranges::any_of(thread.committed_copies, [](const auto& group) { return !group.empty(); })) {
        throw Fault("ends while copies it issued are under way");
      }
      if (!thread.products.pending.empty()) {
        throw Fault("ends while products it issued are under way");
      }
    } catch (const Fault& fault) {
      fault_ = fmt::format("block {}, thread {}, line {}: {}", thread.block->index, thread.index, line,
                           fault.message());
    } catch (const Cancelled&) {  // NOLINT(bugprone-empty-catch): unwinding the stack was all it was for
    } catch (...) {
      failure_ = std::current_exception();
      fault_ = "stopped";
    }
  });
}

void Grid::end_block(const Block& block) const {
  if (!block.bulk_copies.empty()) {
    const BulkCopy& copy = block.bulk_copies.front();
    if (copy.storing_block < 0) {
      throw Fault(fmt::format("block {} ends while the bulk copy issued at line {} is under way", block.index,
                              copy.line));
    }
    throw Fault(
        fmt::format("block {} ends while the store that block {} issued at line {} is under way to it",
                    block.index, copy.storing_block, copy.line));
  }
  for (const auto& [component, act] : block.remote_acts) {
    if (block.knows_of(act.stamp)) continue;
    throw Fault(fmt::format(
        "block {} ends, and nothing has told it that the {} at line {} is done", block.index,
        act.thread < 0 ? fmt::format("store that block {} issued", act.block)
                       : fmt::format("remote arrival that thread {} of block {} made", act.thread, act.block),
        act.stamp.line));
  }
  block.registers.check_end(block.index);
  for (const auto& [address, barrier] : block.mbarriers) {
    if (barrier.bytes_left < 0) {
      throw Fault(fmt::format("block {} ends with {} bytes of an mbarrier that no phase expects", block.index,
                              -barrier.bytes_left));
    }
  }
}

/// Lets the threads that have not ended unwind.
void Grid::stop() {
  stopping_ = true;
  for (Block& block : blocks_) {
    for (Thread& thread : block.threads) {
      if (!thread.fiber) continue;
      current_ = &thread;
      thread.fiber->resume();
      thread.fiber.reset();
    }
  }
  blocks_.clear();
}

void Grid::wait(const char* what) {
  Thread& thread = self();
  thread.waits_for = what;
  thread.line = line;
  thread.fiber->yield();
  if (stopping_) throw Cancelled{};
  line = thread.line;
}

Result<void> run_grid(const GridShape& shape, const Regions& regions, BlockOrder order,
                      const std::function<void(Machine&)>& thread) {
  const auto refuse = [](const char* field, int value, const char* allowed) {
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("{}: {} is not allowed; allowed: {}", field, value, allowed),
                                 {}});
  };
  if (shape.blocks < 1) return refuse("blocks", shape.blocks, "1 or more");
  if (shape.threads < kLanes || shape.threads % kLanes != 0) {
    return refuse("threads", shape.threads, "multiples of 32");
  }
  if (shape.shared_bytes < 0) return refuse("shared_bytes", shape.shared_bytes, "0 or more");
  if (shape.cluster_blocks < 1 || shape.cluster_blocks > kMostClusterBlocks ||
      shape.blocks % shape.cluster_blocks != 0) {
    return refuse("cluster_blocks", shape.cluster_blocks, "divisors of the blocks, up to 8");
  }
  thread_local StackPool stacks;  // kept for the next grid: mapping them anew costs more than a small grid
  return Grid(shape, regions, order, thread, stacks).run();
}

}  // namespace lutsmith::emulator
