#pragma once

#include "templates/many_tokens/geometry.cuh"
#include "templates/primitives/global_memory.cuh"
#include "templates/primitives/global_vectors.cuh"
#include "templates/primitives/matrix_store.cuh"
#include "templates/primitives/pairs.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/stream_k.cuh"

// The end of a segment, the part of a tile that lies in one partition: the groups along K add their sums,
// each for its own share of the tokens, and then the blocks of a cluster; parts of a cut tile are added by
// the block that comes last; Y is written.

namespace lutsmith::device {

/// Named barriers.
template <class Config>
struct ConsumerBarriers {
  using G = ManyTokensGeometry<Config>;
  static __device__ __forceinline__ void meet_all() { named_barrier(1, G::kConsumers); }
  static __device__ __forceinline__ void meet_warpgroup(int warpgroup) { named_barrier(2 + warpgroup, 128); }
};

template <class Config>
class ManyTokensEpilogue {
 public:
  using G = ManyTokensGeometry<Config>;
  using K = StreamK<G>;
  using Barriers = ConsumerBarriers<Config>;
  using Sums = float[G::kSums];

  __device__ __forceinline__ ManyTokensEpilogue(const LaunchArguments& launch, unsigned char* shared)
      : launch_(launch), shared_(shared) {}

  /// Works on the sums in place.
  __device__ __forceinline__ void finish_segment(const TileWalk<Config>& at, Sums& sums, bool whole,
                                                 unsigned int& exchange_parity) {
    if constexpr (Config::kKGroups > 1) add_groups(sums);
    if constexpr (G::kBlocks > 1) add_blocks(sums, exchange_parity);
    if (!whole) {
      typename K::Parts parts = K::parts_of(launch_, at.shared_tile(), TileWalk<Config>::partition());
      if constexpr (G::kBlocks > 1) parts.counter = parts.counter * G::kBlocks + cluster_rank();
      if (!last_part(sums, parts)) return;
      if (parts.count != 2) return write_parts(Slots(launch_, parts), at);
      add_other(sums, parts);
    }
    Output(*this, at).write_all(sums);
  }

 private:
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

  static __device__ __forceinline__ void add(float* sums, float4 more) {
    sums[0] += more.x, sums[1] += more.y, sums[2] += more.z, sums[3] += more.w;
  }

  /// Stores this block's part of a cut tile. Whether it came last, and all parts are there.
  __device__ __forceinline__ bool last_part(const Sums& sums, const typename K::Parts& parts) {
    float* slot = parts.own + first_element();
#pragma unroll
    for (int i = 0; i < kFinishedOctets; ++i) {
      if (i < finished_octets()) store_partial_sums_4(slot + place(i) * kNextOctet, four(sums, i));
    }
    const bool leader = consumer() == 0;
    int* flag = reinterpret_cast<int*>(shared_ + shared_layout_of<Config>().flag_offset());
    return K::last_to_arrive(launch_, parts, flag, leader, [] { Barriers::meet_all(); });
  }

  static constexpr unsigned int kWarpgroupThreads = 128;

  /// Octets that are loaded, staged and written together: the registers allow no more beside what the main
  /// loop keeps over the end of a tile.
  static constexpr int kTogether = many_tokens::staged_octets(G::kOwnOctets, G::kWarpgroups, G::kBlocks);
  static constexpr int kPartsTogether = 4;
  using Loaded = float4[kPartsTogether][kTogether];

  /// Where this thread's sums of a cut tile lie, in floats from the first slot: no registers for pointers.
  struct Slots {
    const LaunchArguments& launch;
    int first;  ///< of the first part
    int next;   ///< of the second part; two slots from one part to the next
    int count;  ///< of parts

    __device__ __forceinline__ Slots(const LaunchArguments& launch_, const typename K::Parts& parts)
        : launch(launch_),
          first(static_cast<int>(parts.first_slot - launch.partial_sums) + first_element()),
          next(static_cast<int>(parts.next_slots - launch.partial_sums) + first_element()),
          count(parts.count) {}

    /// Parts `part` and those after it, of octet `octet` and those after it; zeros behind the last part.
    __device__ __forceinline__ void load(Loaded& to, int part, int octet) const {
#pragma unroll
      for (int j = 0; j < kPartsTogether; ++j) {
        const int slot = part + j == 0 ? first : next + 2 * (part + j - 1) * K::kSlotFloats;
        const float* from =
            launch.partial_sums + slot + octet * G::kBlocks * kNextOctet;  // place(octet): it is even
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          to[j][i] = load_partial_sums_4(from + place(i) * kNextOctet, part + j < count);
        }
      }
    }
  };

  /// To one of two parts, which is still at hand, adds the other: in either order the sum is the same.
  static __device__ __forceinline__ void add_other(Sums& sums, const typename K::Parts& parts) {
    constexpr int kAtOnce = kFinishedOctets % 8 == 0 ? 8 : kTogether;  // octets
    const float* slot =
        (parts.own == parts.first_slot ? parts.next_slots : parts.first_slot) + first_element();
#pragma unroll
    for (int first = 0; first < kFinishedOctets; first += kAtOnce) {
      float4 other[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        other[i] = load_partial_sums_4(slot + place(first + i) * kNextOctet, first + i < finished_octets());
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) add(sums + 4 * (first + i), other[i]);
    }
  }

  /// Writes the sums of all parts, added in the order of the partitions. While octets are written, the parts
  /// of the next are on their way.
  __device__ __forceinline__ void write_parts(const Slots& parts, const TileWalk<Config>& at) const {
    Loaded loaded;
    if (finished_octets() > 0) parts.load(loaded, 0, 0);  // else they are the other block's
    Output output(*this, at);
#pragma unroll 1
    for (int first = 0; first < finished_octets(); first += kTogether) {
      float sums[4 * kTogether];
#pragma unroll
      for (int i = 0; i < 4 * kTogether; ++i) sums[i] = 0;
#pragma unroll 1
      for (int part = 0; part < parts.count; part += kPartsTogether) {
#pragma unroll
        for (int i = 0; i < kTogether * kPartsTogether; ++i) {
          add(sums + 4 * (i % kTogether), loaded[i / kTogether][i % kTogether]);
        }
        const bool more = part + kPartsTogether < parts.count;
        if (more || first + kTogether < finished_octets()) {
          parts.load(loaded, more ? part + kPartsTogether : 0, more ? first : first + kTogether);
        }
      }
      output.write(sums);
    }
  }

  // In a slot an octet of tokens follows another, and of an octet the sums of a thread those of the one
  // before.
  static constexpr int kNextOctet = G::kRowThreads * 4;
  static __device__ __forceinline__ int first_element() {
    return first_octet() * kNextOctet + row_thread() * 4;
  }

  /// Writes a tile's sums to Y, kTogether octets of tokens after another: through shared memory, so that 64
  /// rows of a token, which are neighbours in Y, are written together, 16 bytes a thread.
  class Output {
   public:
    __device__ __forceinline__ Output(const ManyTokensEpilogue& epilogue, const TileWalk<Config>& at)
        : launch_(epilogue.launch_), shared_(epilogue.shared_) {
      const typename TileWalk<Config>::Place place = at.place();
      const unsigned int thread = ManyTokensEpilogue::thread();
      const int row = place.row_tile * Config::kTileRows + row_group() * many_tokens::kWarpgroupRows;
      if constexpr (G::kPerChannel) {
        epilogue.find_scales(
            scales_, row + thread / layout::kLanes * layout::kRecordRows + thread % layout::kLanes / 4);
      }
      // The 16-byte pieces of a token are permuted, so that those of eight tokens which are written at a time
      // fall on different banks.
      const unsigned int staging = epilogue.staging();
      const unsigned int column = thread / layout::kLanes * 2 + thread / 8 % 2;  // eight rows
      column_ = staging + (thread % layout::kLanes / 16 * 8 + thread % 8) * kTokenBytes +
                (column ^ thread % 8) * 16;
      piece_ = staging + thread / kPieces * kTokenBytes + (thread % kPieces ^ thread / kPieces % 8) * 16;
      row_ = row + thread % kPieces * 8;
      token_ = place.token_tile * Config::kTileTokens + first_octet() * 8 + thread / kPieces;
      to_ = launch_.output + token_ * launch_.output_stride + row_;
    }

    /// All octets. More than a few turns are a loop, or compiling takes a fifth longer: only the sums of a
    /// turn, which are in registers, are staged by instructions of its own. Turns are apart in time all the
    /// same, since each begins with a barrier.
    __device__ __forceinline__ void write_all(const float* sums) {
      constexpr int kTurns = kFinishedOctets / kTogether;
#pragma unroll(kTurns <= 4 ? kTurns : 1)
      for (int turn = 0; turn < kTurns; ++turn) {
        if (turn * kTogether >= finished_octets()) break;
        Barriers::meet_warpgroup(warpgroup());
#pragma unroll
        for (int i = 0; i < kTurns; ++i) {
          if (turn == i) stage(sums + 4 * kTogether * i);
        }
        copy_out();
      }
    }

    /// The next kTogether octets.
    __device__ __forceinline__ void write(const float* sums) {
      Barriers::meet_warpgroup(warpgroup());
      stage(sums);
      copy_out();
    }

   private:
    __device__ __forceinline__ void stage(const float* sums) const {
#pragma unroll
      for (int i = 0; i < kTogether; i += 2) {
        const float* next = sums + 4 * i;
        const unsigned int matrices[4] = {pair(next, 0), pair(next, 2), pair(next + 4, 0), pair(next + 4, 2)};
        store_matrices_transposed(shared_ + column_ + i * 8 * kTokenBytes, matrices);
      }
    }

    __device__ __forceinline__ void copy_out() {
      Barriers::meet_warpgroup(warpgroup());
      if (aligned() && (G::kWholeRows || row_ + 8 <= Config::kN)) {
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
          if (token_ + pass * kPassTokens < launch_.tokens) {
            store_output_16(
                to_ + pass * kPassTokens * launch_.output_stride,
                load_shared(reinterpret_cast<const uint4*>(shared_ + piece_ + pass * kPassBytes)));
          }
        }
      } else {
        write_elements();
      }
      token_ += kNextTokens;
      to_ += kNextTokens * launch_.output_stride;
    }

    static constexpr int kPieces = many_tokens::kWarpgroupRows / 8;  // of 16 bytes, of one token
    static constexpr int kPassTokens = kWarpgroupThreads / kPieces;  // that all threads copy at a time
    static constexpr int kTokenBytes = shared_layout_of<Config>().passage_stride();
    static constexpr int kPassBytes = kPassTokens * kTokenBytes;
    static constexpr int kPasses = kTogether * 8 / kPassTokens;
    static constexpr int kNextTokens = kTogether * 8 * G::kBlocks;  // from a turn to the next

    /// The sums of row g (c = 0) or g + 8 (c = 2) and two tokens, as they are written.
    __device__ __forceinline__ unsigned int pair(const float* sums, int c) const {
      if constexpr (G::kPerChannel) {
        return pair_from_floats<Config::kElement>(sums[c] * scales_[c / 2], sums[c + 1] * scales_[c / 2]);
      } else {
        return pair_from_floats<Config::kElement>(sums[c], sums[c + 1]);
      }
    }

    /// Whether 16 bytes of Y can be written at a time.
    __device__ __forceinline__ bool aligned() const {
      return reinterpret_cast<unsigned long long>(launch_.output) % 16 == 0 && launch_.output_stride % 8 == 0;
    }

    /// Of the staged pieces those elements that Y has, one at a time.
    __device__ __forceinline__ void write_elements() const {
#pragma unroll 1
      for (int i = 0; i < kPasses * 8; ++i) {
        const int token = i / 8 * kPassTokens;
        if (token_ + token >= launch_.tokens || row_ + i % 8 >= Config::kN) continue;
        store_output(
            to_ + token * launch_.output_stride + i % 8,
            load_shared(reinterpret_cast<const unsigned short*>(shared_ + piece_ + i / 8 * kPassBytes) +
                        i % 8));
      }
    }

    const LaunchArguments& launch_;
    unsigned char* shared_;
    unsigned int column_;  ///< where the thread's column of the first matrices is staged, in bytes from there
    unsigned int piece_;   ///< the staged piece that it copies first, likewise
    int row_;              ///< of that piece
    int token_;            ///< of that piece, of the octets that are next
    unsigned short* to_;   ///< where that belongs
    float scales_[2] = {1, 1};
  };

  /// The scales of rows `row` and `row` + 8, one for all k.
  __device__ __forceinline__ void find_scales(float (&scales)[2], int row) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = G::kWholeRows ? row + 8 * half : min(row + 8 * half, Config::kN - 1);
      const long long offset = packed_layout_of<Config>().scale_offset(at, 0);
      scales[half] = to_float<Config::kElement>(load_scale(launch_.weights + offset));
    }
  }

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

  static __device__ __forceinline__ unsigned int staging() {
    return passage_place(warpgroup() * shared_layout_of<Config>().staged_tokens() * kPiecesOfARow);
  }

  const LaunchArguments& launch_;
  unsigned char* shared_;
};

}  // namespace lutsmith::device
