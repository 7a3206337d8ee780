// Blocks of a cluster: their common barrier, and what reaches from one into the other's shared memory.

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "emulator/block.h"
#include "emulator/fault.h"
#include "emulator/grid_machine.h"

namespace lutsmith::emulator {

Cluster::Cluster(int number, int block_count, int block_threads)
    : index(number),
      blocks(static_cast<std::size_t>(block_count)),
      threads(block_count * block_threads),
      gathered(static_cast<std::size_t>(block_count * clock_length(block_threads))),
      completed(gathered.size()) {}

void Cluster::arrive(Thread& thread) {
  learn(gathered, thread.clock);
  learn(foreign_gathered, thread.foreign);
  thread.release();
  ++thread.cluster_arrivals;
  ++arrived;
  settle();
}

void Cluster::end(const Thread& thread) {
  ++ended;
  if (thread.cluster_arrivals > phase) return;  // it has arrived in this phase
  ++arrived;
  settle();
}

/// The phase may be complete.
void Cluster::settle() {
  if (arrived < threads) return;
  ++phase;
  arrived = ended;
  completed = gathered;
  foreign_completed = foreign_gathered;
  for (Thread* const thread : std::exchange(waiting, {})) thread->block->make_ready(*thread);
}

void Grid::arrive_at_cluster() {
  if (self().cluster_arrivals > self().cluster_waits) {
    throw Fault("arrives at the cluster's barrier a second time, without having waited for it");
  }
  cluster().arrive(self());
}

void Grid::wait_for_cluster() {
  if (self().cluster_arrivals == self().cluster_waits) {
    throw Fault("waits for the cluster's barrier without having arrived at it");
  }
  ++self().cluster_waits;
  if (cluster().phase < self().cluster_waits) {
    cluster().waiting.push_back(&self());
    wait("the cluster's barrier");
  }
  // The next phase cannot be complete yet: it wants this thread.
  learn(self().clock, cluster().completed);
  learn(self().foreign, cluster().foreign_completed);
}

/// The block of the cluster, of which something has told this thread that it has begun.
Block& Grid::reachable_block(int rank) const {
  if (rank < 0 || rank >= shape_.cluster_blocks) {
    throw Fault(
        fmt::format("reaches into block {} of its cluster, which has {}", rank, shape_.cluster_blocks));
  }
  const ClusterPlace& own = block().in_cluster;
  if (rank == own.rank) return block();
  Block* const other = cluster().blocks[static_cast<std::size_t>(rank)];
  if (other == nullptr) {
    throw Fault(fmt::format("reaches into block {}, which has ended", own.first_block + rank));
  }
  const auto first = self().clock.begin() + other->first_component;
  if (std::all_of(first, first + shape_.threads, [](std::uint32_t count) { return count == 0; })) {
    throw Fault(fmt::format("reaches into block {} before a wait_for_cluster(): it may not have begun",
                            other->index));
  }
  return *other;
}

/// The same place in another block.
void* Grid::place_in(Block& other, const void* place) const {
  const auto byte =
      reinterpret_cast<std::uintptr_t>(place) - reinterpret_cast<std::uintptr_t>(block().shared.data());
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(other.shared.data()) + byte);
}

void Grid::arrive_remote(unsigned long long* barrier, int rank) {
  Block& other = reachable_block(rank);
  Mbarrier& target = known_barrier(other, place_in(other, barrier));
  other.remote_acts[self().component] = {stamp(), block().index, self().index};
  arrive(other, target, 0);
}

void Grid::store_async(void* to, int rank, const void* value, unsigned long long* barrier) {
  constexpr std::size_t kBytes = 16;
  Block& other = reachable_block(rank);
  Mbarrier& target = copying_barrier(other, place_in(other, barrier));
  check_integers(value, kBytes);
  const auto* const bytes = static_cast<const std::byte*>(value);
  std::vector<std::byte> stored(bytes, bytes + kBytes);
  void* const there = place_in(other, to);
  begin_copy(other, there, kBytes, block().in_cluster.rank);
  const Copy copy{there, stored.data(), kBytes};
  other.bulk_copies.push_back({copy, &target, line, std::move(stored), block().index});
}

}  // namespace lutsmith::emulator
