#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "emulator/clock.h"
#include "emulator/fiber.h"
#include "emulator/register_pool.h"
#include "emulator/shared_memory.h"
#include "emulator/warpgroup.h"

namespace lutsmith::emulator {

inline constexpr int kLanes = 32;

struct Block;

/// A copy to shared memory that has not arrived.
struct Copy {
  void* to = nullptr;
  const void* from = nullptr;
  std::size_t bytes = 0;
};

struct Thread {
  Block* block = nullptr;
  int index = 0;
  int component = 0;             ///< in clocks
  std::unique_ptr<Fiber> fiber;  ///< from its first turn on
  Clock clock;
  ForeignClocks foreign;
  bool dependency_met = false;
  const char* waits_for = nullptr;  ///< null: can run, or has ended
  int line = 0;                     ///< where it waits
  std::vector<Copy> open_copies;    ///< cp.async since the last commit
  std::deque<std::vector<Copy>> committed_copies;
  /// One more than the last phase of each that it waited for; phase 0 is the one before the first.
  std::map<const struct Mbarrier*, std::uint32_t> phases_waited;
  std::uint32_t fenced_stores =
      0;                   ///< up to which of its counts they are fenced against the asynchronous proxy
  std::uint32_t uses = 0;  ///< of what it has read: see SharedMemory::begin_copy
  std::vector<std::uint32_t> released_uses;  ///< at the end of each of its counts
  ThreadProducts products;
  std::uint32_t cluster_arrivals = 0;  ///< at the barrier of its cluster
  std::uint32_t cluster_waits = 0;

  Stamp stamp(int at_line) const {
    return {component, clock[static_cast<std::size_t>(component)], at_line, 0};
  }
  /// What it did so far is what others learn of it now; what follows is later.
  void release() {
    ++clock[static_cast<std::size_t>(component)];
    released_uses.push_back(uses);
  }
  /// What it knows that `other` has used: nothing that came after what `other` has released.
  std::uint32_t known_uses(const Thread& other) const {
    if (&other == this) return uses;
    return other.released_uses[clock[static_cast<std::size_t>(other.component)]];
  }
  /// It has waited for the last complete phase.
  void learn_phase(const struct Mbarrier& barrier);
};

/// Threads that have arrived at a barrier and wait for the others.
struct Meeting {
  std::vector<Thread*> arrived;
  std::size_t expected = 0;
  int line = 0;
  std::vector<Stamp> before;  ///< of a named barrier: when those arrived who met there last
};

/// An operation of a whole warp under way: what each lane brings, then what it gets.
struct Collective {
  static constexpr std::size_t kWords = 10;
  const char* name = nullptr;
  int line = 0;
  std::vector<Thread*> arrived;
  std::array<std::array<std::uint32_t, kWords>, kLanes> words;
};

struct Warp {
  Meeting meeting;
  Collective collective;
};

struct Mbarrier {
  Stamp initialized;
  bool fenced = false;
  int component = 0;        ///< in clocks: what its bytes count as
  std::uint32_t phase = 0;  ///< phases that have completed
  bool counts_bytes = false;
  int arrivals = 1;       ///< that complete a phase, with the bytes they expect
  int arrivals_left = 1;  ///< of the phase under way
  std::int64_t bytes_left = 0;
  Clock gathered;   ///< what those who arrived in this phase know
  Clock completed;  ///< what a waiter of the last complete phase learns
  std::vector<Thread*> waiting;
};

struct BulkCopy {
  Copy copy;
  Mbarrier* barrier = nullptr;
  int line = 0;
  std::vector<std::byte> box = {};  ///< of a tensor copy or a store: what `copy` comes from
  int storing_block = -1;           ///< of an asynchronous store; -1: it is none
};

/// The last that another block has done to a block's memory in one way.
struct RemoteAct {
  Stamp stamp;
  int block = 0;
  int thread = -1;  ///< that has arrived at an mbarrier; -1: it is a store
};

/// Blocks that run together, and the barrier of all their threads.
struct Cluster {
  Cluster(int number, int block_count, int block_threads);

  int index;
  std::vector<Block*> blocks;  ///< by rank; null: has ended
  int threads;                 ///< of all blocks
  int ended = 0;
  int arrived = 0;          ///< in the phase under way, with those that have ended
  std::uint32_t phase = 0;  ///< phases that have completed
  Clock gathered;           ///< what those who have arrived know
  Clock completed;          ///< what a waiter of the last complete phase learns
  ForeignClocks foreign_gathered;
  ForeignClocks foreign_completed;
  std::vector<Thread*> waiting;

  void arrive(Thread& thread);
  /// It counts as one that has arrived from here on, but tells nothing.
  void end(const Thread& thread);

 private:
  void settle();
};

/// A block of threads and everything it shares.
struct Block {
  Block(std::shared_ptr<Cluster> of, const ClusterPlace& at, int thread_count, std::size_t shared_bytes,
        bool dependency_met);

  std::shared_ptr<Cluster> cluster;
  ClusterPlace in_cluster;
  int index;
  int first_component;  ///< of its threads, mbarriers and warpgroups in clocks
  SharedMemory shared;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::map<int, Meeting> barriers;
  std::map<const void*, Mbarrier> mbarriers;
  std::vector<Warpgroup> warpgroups;
  RegisterPool registers;
  std::vector<Thread*> claiming;         ///< that wait for registers
  std::vector<Stamp> dependency_waits;   ///< when threads have waited for the launch before
  std::deque<BulkCopy> bulk_copies;      ///< under way, oldest first
  std::map<int, RemoteAct> remote_acts;  ///< by the component that tells of them
  std::deque<Thread*> ready;
  int running;  ///< threads that have not ended

  void make_ready(Thread& thread);
  /// Registers were given up.
  void wake_claiming();
  /// All of them learn what any of them knows.
  static void join(std::span<Thread* const> threads);
  /// Whether any of its threads knows.
  bool knows_of(const Stamp& stamp) const;
  /// The oldest bulk copy arrives.
  void deliver_copy();
  /// A phase may be complete.
  void settle(Mbarrier& barrier);
  /// Where every thread that has not ended waits, threads at the same place together.
  std::string places() const;
};

}  // namespace lutsmith::emulator
