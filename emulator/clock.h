#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

// Who knows of what: vector clocks (Mattern 1989), with the epochs of FastTrack (Flanagan and Freund,
// PLDI 2009) for single accesses. Every thread of a cluster counts its own releases; a thread's clock says up
// to which count it has seen of each other. An access happened before a thread's present exactly if that
// thread's clock has reached the count the access was made at.

namespace lutsmith::emulator {

/// One count for each thread of a block, then one for each mbarrier, the phases whose bytes were seen, then
/// one for each warpgroup, the products that are known to be done; all that for each block of the cluster.
using Clock = std::vector<std::uint32_t>;

inline constexpr int kMostMbarriers = 128;
inline constexpr int kWarpgroupThreads = 128;

/// Where the counts of warpgroups begin among those of a block, and how many counts those are.
constexpr int first_warpgroup(int threads) { return threads + kMostMbarriers; }
constexpr int clock_length(int threads) { return first_warpgroup(threads) + threads / kWarpgroupThreads; }

/// Which one of its cluster a block is.
struct ClusterPlace {
  int rank = 0;
  int blocks = 1;       ///< of the cluster
  int first_block = 0;  ///< the index in the grid of the one with rank 0

  int block() const { return first_block + rank; }
  /// Where the counts of the block begin.
  int first_component(int threads) const { return rank * clock_length(threads); }
};

/// When somebody did something.
struct Stamp {
  int who = -1;  ///< index in a Clock; -1: nobody did
  std::uint32_t count = 0;
  int line = 0;
  std::uint32_t uses = 0;  ///< of a read: what the thread had done before that shows that it has what it read
};

inline bool happened_before(const Stamp& stamp, const Clock& now) {
  return stamp.who < 0 || now[static_cast<std::size_t>(stamp.who)] >= stamp.count;
}

/// Learns all that `other` knows.
inline void learn(Clock& clock, const Clock& other) {
  std::uint32_t* mine = clock.data();
  const std::uint32_t* theirs = other.data();
  for (std::size_t i = 0; i < clock.size(); ++i) mine[i] = std::max(mine[i], theirs[i]);
}

/// What a thread knows of each other cluster, through the counters of arrivals.
using ForeignClocks = std::map<int, std::shared_ptr<const Clock>>;

inline void learn(ForeignClocks& clocks, const ForeignClocks& others) {
  for (const auto& [cluster, clock] : others) {
    std::shared_ptr<const Clock>& mine = clocks[cluster];
    if (mine == clock) continue;
    if (!mine) {
      mine = clock;
      continue;
    }
    Clock joined = *mine;
    learn(joined, *clock);
    mine = std::make_shared<const Clock>(std::move(joined));
  }
}

}  // namespace lutsmith::emulator
