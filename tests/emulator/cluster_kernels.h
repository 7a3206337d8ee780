#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "lambda_kernels.h"

// What tests of clusters run: a pair of blocks that reach each other's shared memory.

namespace lutsmith::emulator_test {

inline constexpr GridShape kPair{.blocks = 2, .threads = 32, .shared_bytes = 4096, .cluster_blocks = 2};
inline constexpr BlockOrder kOrders[] = {BlockOrder::ascending, BlockOrder::descending,
                                         BlockOrder::interleaved};

inline constexpr unsigned int kStored = 16;  // bytes of a store
inline constexpr unsigned int kPushed = 32 * kStored;

/// The bytes that come from the other block are counted here,
inline unsigned long long* full_of(Machine& machine) {
  return reinterpret_cast<unsigned long long*>(machine.dynamic_shared() + 2048);
}
/// and here that it has used what came from this one.
inline unsigned long long* free_of(Machine& machine) { return full_of(machine) + 1; }

inline void meet_cluster(Machine& machine) {
  machine.arrive_at_cluster();
  machine.wait_for_cluster();
}

/// Stores four times a value at a byte of the other block.
inline void push(Machine& machine, int byte, std::uint32_t value, int rank) {
  const std::array<std::uint32_t, 4> values = {value, value, value, value};
  machine.store_async(machine.dynamic_shared() + byte, rank, values.data(), full_of(machine));
}

struct Exchange {
  bool initialises = true;
  bool fences = true;
  bool meets_first = true;        ///< the other block, before anything is pushed
  bool meets_initialised = true;  ///< and not before it has initialised its mbarriers
  bool waits_for_free = true;
  bool waits_for_full = true;
  bool uses = true;  ///< what it has read
  bool meets_last = true;
  unsigned int expected = kPushed;
  int byte = 0;               ///< where the first lane pushes to
  int arriving = 32;          ///< lanes that tell the other block that they have used what came
  int pushing_to = -1;        ///< rank; -1: the other block
  int ranks_that_expect = 2;  ///< whose lane 0 arrives with the bytes
};

/// Both blocks of a cluster push 16 bytes from every lane to the other, in several turns, and read what the
/// next lane of the other has pushed.
inline Kernel exchanging(const Exchange& how, int turns = 5) {
  return [how, turns](Machine& machine) {
    begin(machine, 1);
    const int lane = machine.thread_index();
    const int rank = machine.cluster_rank();
    const int other = how.pushing_to < 0 ? 1 - rank : how.pushing_to;
    const auto value = [](int turn, int block, int thread) {
      return static_cast<std::uint32_t>(1000 * turn + 100 * block + thread);
    };
    if (!how.meets_initialised) meet_cluster(machine);
    machine.line = 2;
    if (lane == 0 && how.initialises) {
      machine.initialize_barrier(full_of(machine), 1);
      machine.initialize_barrier(free_of(machine), 32);
      if (how.fences) machine.fence_barrier_initialization();
    }
    machine.block_barrier();
    machine.line = 3;
    if (how.meets_first && how.meets_initialised) meet_cluster(machine);
    for (int turn = 0; turn < turns; ++turn) {
      machine.line = 10;
      if (turn > 0 && how.waits_for_free) {
        machine.wait_barrier(free_of(machine), static_cast<unsigned int>((turn - 1) % 2));
      }
      machine.line = 11;
      if (lane == 0 && rank < how.ranks_that_expect) {
        machine.arrive_expecting(full_of(machine), how.expected);
      }
      machine.line = 12;
      push(machine, how.byte + lane * static_cast<int>(kStored), value(turn, rank, lane), other);
      machine.line = 13;
      if (how.waits_for_full) machine.wait_barrier(full_of(machine), static_cast<unsigned int>(turn % 2));
      machine.line = 14;
      const int next = (lane + 1) % 32;
      EXPECT_EQ(load(machine, next * static_cast<int>(kStored) + 4), value(turn, 1 - rank, next));
      if (how.uses) machine.shuffle(0, 0);
      machine.line = 15;
      if (lane < how.arriving) machine.arrive_remote(free_of(machine), other);
    }
    machine.line = 16;
    if (how.meets_last) meet_cluster(machine);
  };
}

}  // namespace lutsmith::emulator_test
