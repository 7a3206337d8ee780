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
// each for its own share of the tokens; parts of a cut tile are added by the block that comes last; Y is
// written.

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

  __device__ __forceinline__ void finish_segment(const TileWalk<Config>& at, const Sums& sums, bool whole) {
    Own own;
    add_groups(own, sums);
    if (!whole) {
      const typename K::Parts parts = K::parts_of(launch_, at.shared_tile(), block_index());
      if (!last_part(own, parts)) return;
      if (parts.count != 2) return write_parts(Slots(launch_, parts), at);
      add_other(own, parts);
    }
    const Output output(*this, at);
#pragma unroll
    for (int first = 0; first < G::kOwnOctets; first += kTogether) output.write(own + first, first);
  }

 private:
  /// The sums of this thread's octets.
  using Own = float[G::kOwnOctets][4];

  __device__ __forceinline__ void add_groups(Own& own, const Sums& sums) {
    if constexpr (Config::kKGroups == 1) {
#pragma unroll
      for (int i = 0; i < G::kSums; ++i) own[i / 4][i % 4] = sums[i];
    } else {
      static_assert(Config::kKGroups == 2);
      const int group = k_group();
      float4* exchange = reinterpret_cast<float4*>(shared_ + shared_layout_of<Config>().exchange_offset()) +
                         row_thread();  // of this thread's rows, an octet of tokens after another
      Barriers::meet_all();             // nobody is at the last segment's output any more
#pragma unroll
      for (int octet = 0; octet < G::kOctets; ++octet) {
        if (octet / G::kOwnOctets != group) {
          store_shared(
              exchange + octet * G::kRowThreads,
              make_float4(sums[4 * octet], sums[4 * octet + 1], sums[4 * octet + 2], sums[4 * octet + 3]));
        }
      }
      Barriers::meet_all();
#pragma unroll
      for (int i = 0; i < G::kOwnOctets; ++i) {
        const float4 other = load_shared(exchange + (group * G::kOwnOctets + i) * G::kRowThreads);
        const float others[4] = {other.x, other.y, other.z, other.w};
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const float lower = sums[4 * i + c];
          const float upper = sums[4 * (G::kOwnOctets + i) + c];
          own[i][c] = (group == 0 ? lower : upper) + others[c];
        }
      }
      Barriers::meet_all();  // the output passes through the same memory
    }
  }

  /// Stores this block's part of a cut tile. Whether it came last, and all parts are there.
  __device__ __forceinline__ bool last_part(const Own& own, const typename K::Parts& parts) {
    float* slot = parts.own + first_element();
#pragma unroll
    for (int i = 0; i < G::kOwnOctets; ++i) {
      store_partial_sums_4(slot + i * kNextOctet, make_float4(own[i][0], own[i][1], own[i][2], own[i][3]));
    }
    const bool leader = consumer() == 0;
    int* flag = reinterpret_cast<int*>(shared_ + shared_layout_of<Config>().flag_offset());
    return K::last_to_arrive(launch_, parts, flag, leader, [] { Barriers::meet_all(); });
  }

  /// Octets that are loaded, staged and written together: the registers allow no more beside what the main
  /// loop keeps over the end of a tile.
  static constexpr int kTogether = many_tokens::staged_octets(G::kOwnOctets, G::kWarpgroups);
  using Together = float[kTogether][4];
  static constexpr int kPartsTogether = 4;

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
    __device__ __forceinline__ void load(Together (&to)[kPartsTogether], int part, int octet) const {
#pragma unroll
      for (int j = 0; j < kPartsTogether; ++j) {
        const int slot = part + j == 0 ? first : next + 2 * (part + j - 1) * K::kSlotFloats;
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          float4 loaded = make_float4(0, 0, 0, 0);
          if (part + j < count) {
            loaded = load_partial_sums_4(launch.partial_sums + slot + (octet + i) * kNextOctet);
          }
          to[j][i][0] = loaded.x, to[j][i][1] = loaded.y, to[j][i][2] = loaded.z, to[j][i][3] = loaded.w;
        }
      }
    }
  };

  /// To one of two parts, which is still at hand, adds the other: in either order the sum is the same.
  static __device__ __forceinline__ void add_other(Own& own, const typename K::Parts& parts) {
    constexpr int kAtOnce = G::kOwnOctets % 8 == 0 ? 8 : kTogether;  // octets
    const float* slot =
        (parts.own == parts.first_slot ? parts.next_slots : parts.first_slot) + first_element();
#pragma unroll
    for (int first = 0; first < G::kOwnOctets; first += kAtOnce) {
      float4 other[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) other[i] = load_partial_sums_4(slot + (first + i) * kNextOctet);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        own[first + i][0] += other[i].x, own[first + i][1] += other[i].y;
        own[first + i][2] += other[i].z, own[first + i][3] += other[i].w;
      }
    }
  }

  /// Writes the sums of all parts, added in the order of the partitions. While octets are written, the parts
  /// of the next are on their way.
  __device__ __forceinline__ void write_parts(const Slots& parts, const TileWalk<Config>& at) const {
    Together loaded[kPartsTogether];
    parts.load(loaded, 0, 0);
    const Output output(*this, at);
#pragma unroll 1
    for (int first = 0; first < G::kOwnOctets; first += kTogether) {
      Together sums;
#pragma unroll
      for (int i = 0; i < 4 * kTogether; ++i) sums[i / 4][i % 4] = 0;
#pragma unroll 1
      for (int part = 0; part < parts.count; part += kPartsTogether) {
#pragma unroll
        for (int i = 0; i < 4 * kTogether * kPartsTogether; ++i) {
          sums[i / 4 % kTogether][i % 4] += loaded[i / (4 * kTogether)][i / 4 % kTogether][i % 4];
        }
        const bool more = part + kPartsTogether < parts.count;
        if (more || first + kTogether < G::kOwnOctets) {
          parts.load(loaded, more ? part + kPartsTogether : 0, more ? first : first + kTogether);
        }
      }
      output.write(sums, first);
    }
  }

  // In a slot an octet of tokens follows another, and of an octet the sums of a thread those of the one
  // before.
  static constexpr int kNextOctet = G::kRowThreads * 4;
  static __device__ __forceinline__ int first_element() {
    return k_group() * G::kOwnOctets * kNextOctet + row_thread() * 4;
  }

  /// Where a tile's sums go.
  struct Output {
    const ManyTokensEpilogue& epilogue;
    int row;    ///< first of the warpgroup
    int token;  ///< first of this group along K
    float scales[2] = {1, 1};

    __device__ __forceinline__ Output(const ManyTokensEpilogue& from, const TileWalk<Config>& at)
        : epilogue(from) {
      const typename TileWalk<Config>::Place place = at.place();
      row = place.row_tile * Config::kTileRows + row_group() * many_tokens::kWarpgroupRows;
      token = place.token_tile * Config::kTileTokens + k_group() * G::kOwnOctets * 8;
      if constexpr (G::kPerChannel) {
        epilogue.find_scales(
            scales, row + thread() / layout::kLanes * layout::kRecordRows + thread() % layout::kLanes / 4);
      }
    }

    /// Octets `first` to `first` + kTogether - 1, through shared memory, so that 64 rows of a token, which
    /// are neighbours in Y, are written together.
    __device__ __forceinline__ void write(const float (*sums)[4], int first) const {
      unsigned char* column = epilogue.first_column();
      Barriers::meet_warpgroup(warpgroup());
#pragma unroll
      for (int i = 0; i < kTogether; i += 2) {
        const unsigned int matrices[4] = {pair(sums[i], 0), pair(sums[i], 2), pair(sums[i + 1], 0),
                                          pair(sums[i + 1], 2)};
        store_matrices_transposed(column + i * 8 * many_tokens::kStagedTokenBytes, matrices);
      }
      Barriers::meet_warpgroup(warpgroup());
      epilogue.copy_out(kTogether * 8, row, token + first * 8);
    }

    /// The sums of row g (c = 0) or g + 8 (c = 2) and two tokens, as they are written.
    __device__ __forceinline__ unsigned int pair(const float (&sums)[4], int c) const {
      if constexpr (G::kPerChannel) {
        return pair_from_floats<Config::kElement>(sums[c] * scales[c / 2], sums[c + 1] * scales[c / 2]);
      } else {
        return pair_from_floats<Config::kElement>(sums[c], sums[c + 1]);
      }
    }
  };

  /// Where this thread's column of the first matrices is staged.
  __device__ __forceinline__ unsigned char* first_column() const {
    const int thread = ManyTokensEpilogue::thread();
    const int warp = thread / layout::kLanes;
    const int lane = thread % layout::kLanes;
    return staging() + (lane / 16 * 8 + lane % 8) * many_tokens::kStagedTokenBytes +
           (warp * 16 + lane / 8 % 2 * 8) * 2;
  }

  __device__ __forceinline__ void copy_out(int tokens, int first_row, int first_token) const {
    constexpr int kPieces = many_tokens::kWarpgroupRows / 8;  // of 16 bytes, of one token
    const int thread = ManyTokensEpilogue::thread();
#pragma unroll
    for (int piece = thread; piece < tokens * kPieces; piece += 128) {
      const int token = first_token + piece / kPieces;
      const int row = first_row + piece % kPieces * 8;
      if (token >= launch_.tokens || (!G::kWholeRows && row >= Config::kN)) continue;
      const unsigned char* staged =
          staging() + piece / kPieces * many_tokens::kStagedTokenBytes + piece % kPieces * 16;
      unsigned short* to = launch_.output + token * launch_.output_stride + row;
      if (aligned() && (G::kWholeRows || row + 8 <= Config::kN)) {
        store_output_16(to, load_shared(reinterpret_cast<const uint4*>(staged)));
      } else {
#pragma unroll 1
        for (int i = 0; i < 8 && row + i < Config::kN; ++i) {
          store_output(to + i, load_shared(reinterpret_cast<const unsigned short*>(staged) + i));
        }
      }
    }
  }

  /// The scales of rows `row` and `row` + 8, one for all k.
  __device__ __forceinline__ void find_scales(float (&scales)[2], int row) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = G::kWholeRows ? row + 8 * half : min(row + 8 * half, Config::kN - 1);
      const long long offset = packed_layout_of<Config>().scale_offset(at, 0);
      scales[half] = to_float<Config::kElement>(load_scale(launch_.weights + offset));
    }
  }

  // Who the thread is. Asked anew each time: the sums leave no registers in which to keep it.

  /// Of those that multiply.
  static __device__ __forceinline__ int consumer() {
    return static_cast<int>(kept(static_cast<unsigned int>(thread_index()))) - kWarpgroupThreads;
  }
  static __device__ __forceinline__ int warpgroup() { return consumer() / kWarpgroupThreads; }
  static __device__ __forceinline__ int row_group() { return warpgroup() % G::kRowGroups; }
  static __device__ __forceinline__ int k_group() { return warpgroup() / G::kRowGroups; }
  /// Of the warpgroup.
  static __device__ __forceinline__ int thread() { return consumer() % kWarpgroupThreads; }
  /// Among the threads that hold the tile's rows.
  static __device__ __forceinline__ int row_thread() { return consumer() % G::kRowThreads; }

  __device__ __forceinline__ unsigned char* staging() const {
    return shared_ + shared_layout_of<Config>().staging_offset() +
           warpgroup() * shared_layout_of<Config>().staging_bytes_of_warpgroup();
  }

  /// Whether 16 bytes of Y can be written at a time.
  __device__ __forceinline__ bool aligned() const {
    return reinterpret_cast<unsigned long long>(launch_.output) % 16 == 0 && launch_.output_stride % 8 == 0;
  }

  static constexpr int kWarpgroupThreads = 128;

  const LaunchArguments& launch_;
  unsigned char* shared_;
};

}  // namespace lutsmith::device
