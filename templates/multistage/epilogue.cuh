#pragma once

#include "templates/finished_sums.cuh"
#include "templates/multistage/geometry.cuh"
#include "templates/primitives/arithmetic.cuh"
#include "templates/primitives/global_memory.cuh"
#include "templates/primitives/global_vectors.cuh"
#include "templates/primitives/pairs.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/primitives/warpgroups.cuh"
#include "templates/stream_k.cuh"

// The end of a segment, the part of a tile that lies in one partition: the groups along K add their sums,
// each for its own share of the tokens; parts of a cut tile are added by the block that comes last; Y is
// written.

namespace lutsmith::device {

template <class Config>
class MultistageEpilogue {
 public:
  using G = MultistageGeometry<Config>;
  using K = StreamK<G>;
  using Sums = float[G::kRecords][G::kOctets][4];

  __device__ __forceinline__ MultistageEpilogue(const LaunchArguments& launch, unsigned char* shared)
      : launch_(launch), shared_(shared) {}

  __device__ __forceinline__ void finish_segment(const WaveWalk<G>& at, const Sums& sums, bool whole) {
    Own own;
    add_groups(own, sums);
    if (whole) {
      write(own, at);
    } else {
      const typename K::Parts parts = K::parts_of(launch_, at.shared_tile(), block_index());
      if (last_part(own, parts)) write_parts(parts, at);
    }
  }

 private:
  /// The sums that this thread finishes: an octet of tokens after another.
  using Octet = float[G::kRecords][4];
  using Own = Octet[G::kOwnOctets];

  __device__ __forceinline__ void add_groups(Own& own, const Sums& sums) {
    if constexpr (Config::kKGroups == 1) {
#pragma unroll
      for (int i = 0; i < G::kOctets * G::kRecords * 4; ++i) {
        own[i / 4 / G::kRecords][i / 4 % G::kRecords][i % 4] =
            sums[i / 4 % G::kRecords][i / 4 / G::kRecords][i % 4];
      }
    } else {
      static_assert(Config::kKGroups == 2);
      const int group = k_group();
      float4* exchange =
          reinterpret_cast<float4*>(shared_ + multistage_layout_of<Config>().exchange_offset()) +
          row_thread();
      block_barrier();  // nobody is at the last segment's output any more
#pragma unroll
      for (int octet = 0; octet < G::kOctets; ++octet) {
        if (octet / G::kOwnOctets == group) continue;
#pragma unroll
        for (int record = 0; record < G::kRecords; ++record) {
          const float(&from)[4] = sums[record][octet];
          store_shared(exchange + (octet * G::kRecords + record) * G::kRowThreads,
                       make_float4(from[0], from[1], from[2], from[3]));
        }
      }
      block_barrier();
#pragma unroll
      for (int i = 0; i < G::kOwnOctets; ++i) {
#pragma unroll
        for (int record = 0; record < G::kRecords; ++record) {
          const int octet = group * G::kOwnOctets + i;
          const float4 other = load_shared(exchange + (octet * G::kRecords + record) * G::kRowThreads);
          const float others[4] = {other.x, other.y, other.z, other.w};
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const float lower = sums[record][i][c];
            const float upper = sums[record][G::kOwnOctets + i][c];
            own[i][record][c] = (group == 0 ? lower : upper) + others[c];
          }
        }
      }
      block_barrier();  // the output passes through the same memory
    }
  }

  /// Stores this block's part of a cut tile. Whether it came last, and all parts are there.
  __device__ __forceinline__ bool last_part(const Own& own, const typename K::Parts& parts) {
    float* slot = parts.own + first_element();
#pragma unroll
    for (int i = 0; i < G::kOwnOctets; ++i) {
#pragma unroll
      for (int record = 0; record < G::kRecords; ++record) {
        const float(&from)[4] = own[i][record];
        store_partial_sums_4(slot + i * kNextOctet + record * kNextRecord,
                             make_float4(from[0], from[1], from[2], from[3]));
      }
    }
    int* flag = reinterpret_cast<int*>(shared_ + multistage_layout_of<Config>().flag_offset());
    return K::last_to_arrive(launch_, parts, flag, thread_index() == 0, [] { block_barrier(); });
  }

  /// Octets whose parts are loaded together.
  static constexpr int kTogether = G::kOwnOctets % 4 == 0 ? 4 : G::kOwnOctets % 2 == 0 ? 2 : 1;
  using Together = Octet[kTogether];

  /// The sums of all parts, in the order of the partitions.
  __device__ __forceinline__ void add_parts(Together& sums, const typename K::Parts& parts, int first) const {
#pragma unroll
    for (int i = 0; i < kTogether * G::kRecords * 4; ++i)
      sums[i / 4 / G::kRecords][i / 4 % G::kRecords][i % 4] = 0;
#pragma unroll 1
    for (int part = 0; part < parts.count; ++part) {
      const float* slot = K::slot(parts, part) + first_element() + first * kNextOctet;
      float4 loaded[kTogether][G::kRecords];
#pragma unroll
      for (int i = 0; i < kTogether * G::kRecords; ++i) {
        const int octet = i / G::kRecords;
        const int record = i % G::kRecords;
        loaded[octet][record] = load_partial_sums_4(slot + octet * kNextOctet + record * kNextRecord, true);
      }
#pragma unroll
      for (int i = 0; i < kTogether * G::kRecords; ++i) {
        const float4 part_sums = loaded[i / G::kRecords][i % G::kRecords];
        float(&to)[4] = sums[i / G::kRecords][i % G::kRecords];
        to[0] += part_sums.x, to[1] += part_sums.y, to[2] += part_sums.z, to[3] += part_sums.w;
      }
    }
  }

  // In a slot an octet of tokens follows another, of an octet a record, and of that the sums of a thread
  // those of the one before.
  static constexpr int kNextRecord = G::kRowThreads * 4;
  static constexpr int kNextOctet = G::kRecords * kNextRecord;
  static __device__ __forceinline__ int first_element() {
    return k_group() * G::kOwnOctets * kNextOctet + row_thread() * 4;
  }

  /// Where the thread's sums belong in Y, and what its rows have for all tokens.
  struct Target {
    int row;  ///< the warp's first, of the weights
    int token;
    float scales[G::kRecords][2];  ///< per channel, of rows g and g + 8 of each record
    float biases[G::kRecords][2];  ///< likewise
  };

  __device__ __forceinline__ Target target_of(const WaveWalk<G>& at) const {
    const typename WaveWalk<G>::Place place = at.place();
    Target target;
    target.row = place.row_tile * Config::kTileRows + row_thread() / layout::kLanes * Config::kWarpRows;
    target.token = place.token_tile * Config::kTileTokens + k_group() * G::kOwnOctets * 8;
    if constexpr (G::kPerChannel || Config::kBias) find_terms(target, target.row + lane() / 4);
    return target;
  }

  __device__ __forceinline__ void write_parts(const typename K::Parts& parts, const WaveWalk<G>& at) const {
    const Target target = target_of(at);
#pragma unroll 1
    for (int first = 0; first < G::kOwnOctets; first += kTogether) {
      Together sums;
      const Residual residual(*this, target, first);
      add_parts(sums, parts, first);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) write_octet(sums[i], target, first + i, residual, i);
    }
  }

  __device__ __forceinline__ void write(const Own& own, const WaveWalk<G>& at) const {
    const Target target = target_of(at);
#pragma unroll
    for (int first = 0; first < G::kOwnOctets; first += kTogether) {
      const Residual residual(*this, target, first);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) write_octet(own[first + i], target, first + i, residual, i);
    }
  }

  /// What there is of R for octets that are written one after another: all of it is on its way at a time.
  struct Residual {
    uint4 pieces[kTogether];  ///< as copy_out() writes those of Y
    Together elements;        ///< instead, of 32 bits: of each sum the one it is added to

    __device__ __forceinline__ Residual(const MultistageEpilogue& epilogue, const Target& target, int first) {
      if constexpr (Config::kResidual) {
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          if constexpr (kWideOutput<Config>) {
            epilogue.load_elements(elements[i], target, first + i);
          } else {
            pieces[i] = epilogue.load_piece(target, first + i);
          }
        }
      }
    }

    /// That of the lane's sums of the `octet`-th of them.
    __device__ __forceinline__ void hand_out(Octet& added, const MultistageEpilogue& epilogue,
                                             int octet) const {
      if constexpr (kWideOutput<Config>) {
#pragma unroll
        for (int i = 0; i < G::kRecords * 4; ++i) added[i / 4][i % 4] = elements[octet][i / 4][i % 4];
      } else {
        epilogue.pass_residual(added, pieces[octet]);
      }
    }
  };

  /// `residual` has that of the octet as its `residual_octet`-th.
  __device__ __forceinline__ void write_octet(const Octet& own, const Target& target, int octet,
                                              const Residual& residual, int residual_octet) const {
    Octet added;
    if constexpr (Config::kResidual) residual.hand_out(added, *this, residual_octet);
    Octet sums;
#pragma unroll
    for (int i = 0; i < G::kRecords * 4; ++i) {
      const int half = i % 4 / 2;
      sums[i / 4][i % 4] = finished<Config>(
          own[i / 4][i % 4], G::kPerChannel ? target.scales[i / 4][half] : 1,
          Config::kBias ? target.biases[i / 4][half] : 0, Config::kResidual ? added[i / 4][i % 4] : 0);
    }
    if constexpr (kGated<Config>) {
#pragma unroll
      for (int i = 0; i < G::kRecords * 2; ++i) {
        sums[i / 2][i % 2] = gated<Config>(sums[i / 2][i % 2], sums[i / 2][2 + i % 2]);
      }
    }
    if constexpr (kWideOutput<Config>) {
      for_each_element(target, octet, [&](int record, int c, int channel, int token) {
        write_output<Config>(launch_, token, channel, sums[record][c]);
      });
    } else {
      stage(sums);
      copy_out(target.row, target.token + octet * 8);
    }
  }

  /// Calls use(record, c, channel, token) for those elements of Y that become of the lane's sums of an octet.
  template <class Use>
  __device__ __forceinline__ void for_each_element(const Target& target, int octet, Use use) const {
#pragma unroll
    for (int i = 0; i < G::kRecords * kHalves * 2; ++i) {
      const int half = i / 2;  // of the records, one behind the other
      const int channel = channels_of<Config>(target.row) + half * 8 + lane() / 4;
      const int token = target.token + octet * 8 + lane() % 4 * 2 + i % 2;
      if (token < launch_.tokens && (G::kWholeRows || channel < kChannels)) {
        use(half / kHalves, half % kHalves * 2 + i % 2, channel, token);
      }
    }
  }

  /// Puts an octet token by token into the warp's staging memory, so that the rows of a token, which are
  /// neighbours in Y, are written together. Of rows g and g + 1, which two lanes hold for the same two
  /// tokens, each lane takes both of one token.
  __device__ __forceinline__ void stage(const Octet& sums) const {
    constexpr int kNextRow = 4;                                     // lanes
    constexpr unsigned int kLows = 0x5410, kHighsSwapped = 0x3276;  // of (own, received)
    const int odd = lane() / 4 % 2;
    unsigned char* first = staging() + (lane() % 4 * 2 + odd) * kTokenBytes + (lane() / 4 - odd) * 2;
    warp_barrier();  // nobody is at the last octet any more
#pragma unroll
    for (int i = 0; i < G::kRecords * kHalves; ++i) {
      const float* row = sums[i / kHalves] + i % kHalves * 2;
      const unsigned int own = pair_from_floats<Config::kOutput>(row[0], row[1]);
      const unsigned int received = exchange_lanes(own, kNextRow);
      store_shared(reinterpret_cast<unsigned int*>(first + i * 8 * 2),
                   select_bytes(own, received, odd == 0 ? kLows : kHighsSwapped));
    }
    warp_barrier();
  }

  /// Halves of a record that are rows of Y: with gates the upper one is multiplied into the lower.
  static constexpr int kHalves = kGated<Config> ? 1 : 2;
  static constexpr int kChannels = channels_of<Config>(Config::kN);
  static constexpr int kPieces = channels_of<Config>(Config::kWarpRows) / 8;  // of 16 bytes, of one token

  /// Of an octet, the piece of a token that this lane copies.
  struct Piece {
    int channel;  ///< its first
    int token;
    bool exists;

    __device__ __forceinline__ Piece(const LaunchArguments& launch, int first_row, int first_token)
        : channel(channels_of<Config>(first_row) + lane() % kPieces * 8),
          token(first_token + lane() / kPieces),
          exists(lane() < 8 * kPieces && token < launch.tokens && (G::kWholeRows || channel < kChannels)) {}

    __device__ __forceinline__ bool whole() const { return G::kWholeRows || channel + 8 <= kChannels; }
  };

  __device__ __forceinline__ unsigned char* staged_piece() const {
    return staging() + lane() / kPieces * kTokenBytes + lane() % kPieces * 16;
  }

  __device__ __forceinline__ void copy_out(int first_row, int first_token) const {
    const Piece piece(launch_, first_row, first_token);
    if (!piece.exists) return;
    const unsigned char* staged = staged_piece();
    auto* const output = static_cast<unsigned short*>(launch_.output);
    unsigned short* to = output + piece.token * launch_.output_stride + piece.channel;
    if (aligned(launch_.output, launch_.output_stride) && piece.whole()) {
      store_output_16(to, load_shared(reinterpret_cast<const uint4*>(staged)));
    } else {
#pragma unroll 1
      for (int i = 0; i < 8 && piece.channel + i < kChannels; ++i) {
        store_output(to + i, load_shared(reinterpret_cast<const unsigned short*>(staged) + i));
      }
    }
  }

  /// The lane's piece of R for an octet; what there is not is zeros.
  __device__ __forceinline__ uint4 load_piece(const Target& target, int octet) const {
    const Piece piece(launch_, target.row, target.token + octet * 8);
    uint4 words = make_uint4(0, 0, 0, 0);
    if (!piece.exists) return words;
    const unsigned short* from = residual_at<Config>(launch_, piece.token, piece.channel);
    if (aligned(launch_.residual, launch_.residual_stride) && piece.whole()) return load_residual_16(from);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (piece.channel + i >= kChannels) break;
      unsigned int& word = i < 2 ? words.x : i < 4 ? words.y : i < 6 ? words.z : words.w;
      word |= static_cast<unsigned int>(load_residual(from + i)) << i % 2 * 16;
    }
    return words;
  }

  /// What is added to the lane's sums of an octet; what there is not is zeros.
  __device__ __forceinline__ void load_elements(Octet& elements, const Target& target, int octet) const {
#pragma unroll
    for (int i = 0; i < G::kRecords * 4; ++i) elements[i / 4][i % 4] = 0;
    for_each_element(target, octet, [&](int record, int c, int channel, int token) {
      elements[record][c] = residual_of<Config>(launch_, token, channel);
    });
  }

  /// Hands the lanes' pieces of R, through the staging memory, to those who have the sums they are added to.
  __device__ __forceinline__ void pass_residual(Octet& added, const uint4& piece) const {
    // The lane itself was the last to read there.
    if (lane() < 8 * kPieces) store_shared(reinterpret_cast<uint4*>(staged_piece()), piece);
    warp_barrier();
    const unsigned char* first = staging() + lane() % 4 * 2 * kTokenBytes + lane() / 4 * 2;
#pragma unroll
    for (int i = 0; i < G::kRecords * 4; ++i) {
      const unsigned char* from = first + i % 2 * kTokenBytes + i / 2 * 8 * 2;
      added[i / 4][i % 4] =
          to_float<Config::kOutput>(load_shared(reinterpret_cast<const unsigned short*>(from)));
    }
  }

  /// What rows `row` and `row` + 8 of each record have for all k: a scale, a bias.
  __device__ __forceinline__ void find_terms(Target& target, int row) const {
#pragma unroll
    for (int i = 0; i < G::kRecords * 2; ++i) {
      const int at = G::kWholeRows ? row + 8 * i : min(row + 8 * i, Config::kN - 1);
      if constexpr (G::kPerChannel) {
        const long long offset = packed_layout_of<Config>().scale_offset(at, 0);
        target.scales[i / 2][i % 2] = to_float<Config::kElement>(load_scale(launch_.weights + offset));
      }
      target.biases[i / 2][i % 2] = bias_of<Config>(launch_, at);
    }
  }

  static constexpr int kTokenBytes = multistage::staged_token_bytes(Config::kWarpRows);

  static __device__ __forceinline__ int lane() { return thread_index() % layout::kLanes; }
  static __device__ __forceinline__ int k_group() {
    return Config::kKGroups == 1 ? 0 : thread_index() / G::kRowThreads;
  }
  /// Among the threads that hold the tile's rows.
  static __device__ __forceinline__ int row_thread() { return thread_index() % G::kRowThreads; }

  __device__ __forceinline__ unsigned char* staging() const {
    return shared_ + multistage_layout_of<Config>().staging_offset() +
           thread_index() / layout::kLanes * multistage_layout_of<Config>().staging_bytes_of_warp();
  }

  /// Whether 16 bytes of Y, or of R, can be moved at a time.
  static __device__ __forceinline__ bool aligned(const void* matrix, long long stride) {
    return reinterpret_cast<unsigned long long>(matrix) % 16 == 0 && stride % 8 == 0;
  }

  const LaunchArguments& launch_;
  unsigned char* shared_;
};

}  // namespace lutsmith::device
