#pragma once

#include "templates/many_tokens/geometry.cuh"
#include "templates/primitives/pairs.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/threads.cuh"

// How those who share the units of a tile hand each other their sums: the groups along K of a block, and then
// the blocks of a cluster, through the passage. Which sums a thread finishes follows from that.

namespace lutsmith::device {

/// Named barriers.
template <class Config>
struct ConsumerBarriers {
  using G = ManyTokensGeometry<Config>;
  static __device__ __forceinline__ void meet_all() { named_barrier(1, G::kConsumers); }
  static __device__ __forceinline__ void meet_warpgroup(int warpgroup) { named_barrier(2 + warpgroup, 128); }
};

template <class Config>
class SumExchange {
 public:
  using G = ManyTokensGeometry<Config>;
  using Barriers = ConsumerBarriers<Config>;
  using Sums = float[G::kSums];

 protected:
  __device__ __forceinline__ explicit SumExchange(unsigned char* shared) : shared_(shared) {}

  // Of a thread's sums, the first 4 * kFinishedOctets are those that it finishes; with two groups along K or
  // two blocks they become so when these have added theirs. Groups share the octets in halves; of each half,
  // which is kOwnOctets long, blocks share the pairs in turns, so that each has as many:
  //
  //    octet         0 1 | 2 3 | 4 5 | 6 7   8 9 | ...
  //    group         0     0     0     0     1
  //    block         0     1     0     1     0
  //
  // Octet i of those that a thread finishes is octet first_octet() + place(i) of the tile.

  /// In turns, as many octets as the passage has room for.
  __device__ __forceinline__ void add_groups(Sums& sums) {
    static_assert(Config::kKGroups == 2);
    const int group = k_group();
    unsigned char* exchange = shared_ + passage_place(row_thread());  // an octet of tokens behind another
#pragma unroll
    for (int first = 0; first < G::kOwnOctets; first += kExchangedOctets) {
      Barriers::meet_all();  // nobody is at the last turn, or at the last segment's output, any more
#pragma unroll
      for (int octet = 0; octet < G::kOctets; ++octet) {
        const int i = octet % G::kOwnOctets - first;
        if (octet / G::kOwnOctets != group && i >= 0 && i < kExchangedOctets) {
          store_shared(exchanged<kExchangedOctets>(exchange, octet / G::kOwnOctets, i), four(sums, octet));
        }
      }
      Barriers::meet_all();
#pragma unroll
      for (int i = 0; i < kExchangedOctets; ++i) {
        const float4 other = load_shared(exchanged<kExchangedOctets>(exchange, group, i));
        const float others[4] = {other.x, other.y, other.z, other.w};
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const float lower = sums[4 * (first + i) + c];
          const float upper = sums[4 * (G::kOwnOctets + first + i) + c];
          sums[4 * (first + i) + c] = (group == 0 ? lower : upper) + others[c];
        }
      }
    }
    Barriers::meet_all();  // the output passes through the same memory
  }

  /// In turns as well. What the other block finishes goes straight from registers to its passage.
  __device__ __forceinline__ void add_blocks(Sums& sums, unsigned int& parity) {
    static_assert(G::kBlocks == 2);
    constexpr int kTurn = shared_layout_of<Config>().octets_from_block();
    const ExchangeBarriers<Config> barriers(shared_);
    const int other = cluster_rank() ^ 1;
    const int group = k_group();
    const int pairs = finished_octets() / 2;
    const bool odd = odd_pairs();
    unsigned char* exchange = shared_ + passage_place(row_thread());
#pragma unroll
    for (int first = 0; first < kFinishedOctets; first += kTurn) {
      // Nobody is at the passage any more (behind add_groups() they have met): the other block may write to
      // it.
      if (Config::kKGroups == 1 || first > 0) Barriers::meet_all();
      if (consumer() == 0) arrive_remote(barriers.free, other);
      if (thread_index() % layout::kLanes == 0) {
        const int coming = min(pairs - first / 2, kTurn / 2);
        arrive_expecting(barriers.come, coming * 2 * layout::kLanes * sizeof(float4));
      }
      wait_barrier_of_cluster(barriers.free, parity);
#pragma unroll
      for (int i = first; i < kFinishedOctets && i < first + kTurn; ++i) {
        if (pair_of(i) + !odd < kOwnPairs) {
          store_async_16(exchanged<kTurn>(exchange, group, i - first), of_pairs(sums, i, !odd), barriers.come,
                         other);
        }
      }
      wait_barrier_of_cluster(barriers.come, parity);
#pragma unroll
      for (int i = first; i < kFinishedOctets && i < first + kTurn; ++i) {
        if (pair_of(i) + odd < kOwnPairs) {
          const float4 own = of_pairs(sums, i, odd);
          const float4 more = load_shared(exchanged<kTurn>(exchange, group, i - first));
          float* sum = sums + 4 * i;
          sum[0] = own.x + more.x, sum[1] = own.y + more.y, sum[2] = own.z + more.z, sum[3] = own.w + more.w;
        }
      }
      parity ^= 1u;
    }
    Barriers::meet_all();  // the output passes through the same memory
  }

  static constexpr int kOwnPairs = G::kOwnOctets / 2;
  static constexpr int kFinishedOctets = shared_layout_of<Config>().finished_octets();

  /// Whether the block finishes the odd pairs of the thread's group.
  static __device__ __forceinline__ bool odd_pairs() {
    return ((cluster_rank() + (kOwnPairs % 2 == 0 ? 0 : k_group())) & 1) != 0;
  }
  /// The even one of the two pairs of a group that blocks share with octet i.
  static constexpr __device__ int pair_of(int i) { return i / 2 * 2; }
  /// Octet i of the even or of the odd pairs of a group.
  static __device__ __forceinline__ float4 of_pairs(const float* sums, int i, bool odd) {
    const int octet = pair_of(i) * 2 + i % 2;
    if (pair_of(i) + 1 == kOwnPairs) return four(sums, octet);  // there is no odd one
    const float4 even_one = four(sums, octet);
    const float4 odd_one = four(sums, octet + 2);
    return make_float4(odd ? odd_one.x : even_one.x, odd ? odd_one.y : even_one.y,
                       odd ? odd_one.z : even_one.z, odd ? odd_one.w : even_one.w);
  }

  static __device__ __forceinline__ int first_octet() {
    const int octet = k_group() * G::kOwnOctets;
    if constexpr (G::kBlocks == 1) {
      return octet;
    } else {
      return octet + 2 * odd_pairs();
    }
  }
  static constexpr __device__ int place(int i) { return i / 2 * 2 * G::kBlocks + i % 2; }
  /// How many the thread finishes.
  static __device__ __forceinline__ int finished_octets() {
    if constexpr (G::kBlocks == 1 || kOwnPairs % 2 == 0) {
      return kFinishedOctets;
    } else {
      return kFinishedOctets - 2 * odd_pairs();
    }
  }

  static constexpr int kExchangedOctets = shared_layout_of<Config>().exchanged_octets();

  /// Octet `i` of the turn, for `group`, of the thread whose first is at `exchange`.
  template <int octets>
  static __device__ __forceinline__ float4* exchanged(unsigned char* exchange, int group, int i) {
    constexpr int kNext = G::kRowThreads / kPiecesOfARow * shared_layout_of<Config>().passage_stride();
    return reinterpret_cast<float4*>(exchange + (group * octets + i) * kNext);
  }

  static constexpr int kPiecesOfARow = many_tokens::kPassageRowBytes / 16;

  /// The `piece`-th 16 bytes of the passage, in bytes from the start of shared memory.
  static __device__ __forceinline__ unsigned int passage_place(unsigned int piece) {
    return shared_layout_of<Config>().passage_offset() +
           piece / kPiecesOfARow * shared_layout_of<Config>().passage_stride() + piece % kPiecesOfARow * 16;
  }

  /// A thread's sums of an octet of tokens.
  static __device__ __forceinline__ float4 four(const float* sums, int octet) {
    return make_float4(sums[4 * octet], sums[4 * octet + 1], sums[4 * octet + 2], sums[4 * octet + 3]);
  }

  static constexpr unsigned int kWarpgroupThreads = 128;

  // Who the thread is. Asked anew each time: the sums leave no registers in which to keep it. Without a sign,
  // for division of what could be negative takes five instructions instead of one.

  /// Of those that multiply.
  static __device__ __forceinline__ unsigned int consumer() {
    return kept(static_cast<unsigned int>(thread_index())) - kWarpgroupThreads;
  }
  static __device__ __forceinline__ int warpgroup() { return consumer() / kWarpgroupThreads; }
  static __device__ __forceinline__ int row_group() { return consumer() / kWarpgroupThreads % G::kRowGroups; }
  static __device__ __forceinline__ int k_group() { return consumer() / G::kRowThreads; }
  /// Of the warpgroup.
  static __device__ __forceinline__ int thread() { return consumer() % kWarpgroupThreads; }
  /// Among the threads that hold the tile's rows.
  static __device__ __forceinline__ int row_thread() { return consumer() % G::kRowThreads; }

  unsigned char* shared_;
};

}  // namespace lutsmith::device
