#pragma once

#include "templates/finished_sums.cuh"
#include "templates/many_tokens/exchange.cuh"
#include "templates/many_tokens/geometry.cuh"
#include "templates/primitives/global_memory.cuh"
#include "templates/primitives/global_vectors.cuh"
#include "templates/primitives/matrices.cuh"
#include "templates/primitives/pairs.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/stream_k.cuh"

// The end of a segment, the part of a tile that lies in one partition: those who share its units add their
// sums (exchange.cuh), parts of a cut tile are added by the block that comes last, and Y is written.

namespace lutsmith::device {

template <class Config>
class ManyTokensEpilogue : private SumExchange<Config> {
  using Exchange = SumExchange<Config>;

 public:
  using G = ManyTokensGeometry<Config>;
  using K = StreamK<G>;
  using Barriers = ConsumerBarriers<Config>;
  using Sums = typename Exchange::Sums;

  __device__ __forceinline__ ManyTokensEpilogue(const LaunchArguments& launch, unsigned char* shared)
      : Exchange(shared), launch_(launch) {}

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
    Output<Config::kOutput>(*this, at).write_all(sums);
  }

 private:
  using Exchange::add_blocks;
  using Exchange::add_groups;
  using Exchange::consumer;
  using Exchange::finished_octets;
  using Exchange::first_octet;
  using Exchange::four;
  using Exchange::k_group;
  using Exchange::kFinishedOctets;
  using Exchange::kPiecesOfARow;
  using Exchange::kWarpgroupThreads;
  using Exchange::passage_place;
  using Exchange::place;
  using Exchange::row_group;
  using Exchange::row_thread;
  using Exchange::shared_;
  using Exchange::warpgroup;

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

  /// Octets that are loaded, staged and written together: the registers allow no more beside what the main
  /// loop keeps over the end of a tile.
  static constexpr int kTogether = many_tokens::staged_octets(G::kOwnOctets, G::kWarpgroups, G::kBlocks);
  static constexpr int kNextTokens = kTogether * 8 * G::kBlocks;  // from those to the next
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
    Output<Config::kOutput> output(*this, at);
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
      output.write(sums, first + kTogether < finished_octets());
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
  template <Element output, class Unused = void>
  class Output {
   public:
    __device__ __forceinline__ Output(const ManyTokensEpilogue& epilogue, const TileWalk<Config>& at)
        : launch_(epilogue.launch_), shared_(epilogue.shared_) {
      const typename TileWalk<Config>::Place place = at.place();
      const unsigned int thread = Exchange::thread();
      const int row = place.row_tile * Config::kTileRows + row_group() * many_tokens::kWarpgroupRows;
      if constexpr (G::kPerChannel || Config::kBias) {
        epilogue.find_terms(
            scales_, biases_,
            row + thread / layout::kLanes * layout::kRecordRows + thread % layout::kLanes / 4);
      }
      // The 16-byte pieces of a token are permuted, so that those of eight tokens which are written at a time
      // fall on different banks.
      const unsigned int staging = epilogue.staging();
      const unsigned int warp = thread / layout::kLanes;
      // Eight rows. With gates a warp has eight in all, and puts them a second time where no row of Y is: to
      // leave every other matrix out would need another instruction, which is not faster.
      const unsigned int column = kGated<Config> ? warp + thread / 8 % 2 * 4 : warp * 2 + thread / 8 % 2;
      column_ = staging + (thread % layout::kLanes / 16 * 8 + thread % 8) * kTokenBytes +
                (column ^ thread % 8) * 16;
      piece_ = staging + thread / kPieces * kTokenBytes + (thread % kPieces ^ thread / kPieces % 8) * 16;
      row_ = channels_of<Config>(row) + thread % kPieces * 8;
      token_ = place.token_tile * Config::kTileTokens + first_octet() * 8 + thread / kPieces;
      to_ = output_at<Config>(launch_, token_, row_);
      if (kTogether * 8 < kPassTokens && thread / kPieces >= kTogether * 8) token_ = launch_.tokens;
      if constexpr (Config::kResidual) load_residual_pieces(0);
    }

    /// All octets. More than a few turns are a loop, or compiling takes a fifth longer: only the sums of a
    /// turn, which are in registers, are staged by instructions of its own. Turns are apart in time all the
    /// same, since each begins with a barrier.
    __device__ __forceinline__ void write_all(const float* sums) {
      constexpr int kTurns = kFinishedOctets / kTogether;
#pragma unroll(kTurns <= 4 ? kTurns : 1)
      for (int turn = 0; turn < kTurns; ++turn) {
        if (turn * kTogether >= finished_octets()) break;
        begin_turn((turn + 1) * kTogether < finished_octets());
#pragma unroll
        for (int i = 0; i < kTurns; ++i) {
          if (turn == i) stage(sums + 4 * kTogether * i);
        }
        copy_out();
      }
    }

    /// The next kTogether octets. Whether there are more behind them.
    __device__ __forceinline__ void write(const float* sums, bool more) {
      begin_turn(more);
      stage(sums);
      copy_out();
    }

   private:
    /// Nobody copies the last turn's output any more. R passes through the same memory, in the places of what
    /// it is added to: what a thread brings of it is what it writes of Y. Of the next turn, if there are
    /// more, it is on its way while this one is written.
    __device__ __forceinline__ void begin_turn(bool more) {
      Barriers::meet_warpgroup(warpgroup());
      if constexpr (Config::kResidual) {
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
          store_shared(reinterpret_cast<uint4*>(shared_ + piece_ + pass * kPassBytes), residual_[pass]);
        }
        if (more) load_residual_pieces(kNextTokens);
        Barriers::meet_warpgroup(warpgroup());
      }
    }

    /// What there is not becomes zeros.
    __device__ __forceinline__ void load_residual_pieces(int tokens_on) {
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        const int token = token_ + tokens_on + pass * kPassTokens;
        uint4& words = residual_[pass];
        words = make_uint4(0, 0, 0, 0);
        if (token >= launch_.tokens) continue;
        const unsigned short* from = residual_at<Config>(launch_, token, row_);
        if (aligned(launch_.residual, launch_.residual_stride) && whole_piece()) {
          words = load_residual_16(from);
          continue;
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (row_ + i >= kChannels) break;
          unsigned int& word = i < 2 ? words.x : i < 4 ? words.y : i < 6 ? words.z : words.w;
          word |= static_cast<unsigned int>(load_residual(from + i)) << i % 2 * 16;
        }
      }
    }

    __device__ __forceinline__ void stage(const float* sums) const {
#pragma unroll
      for (int i = 0; i < kTogether; i += 2) {
        const float* next = sums + 4 * i;
        unsigned char* column = shared_ + column_ + i * 8 * kTokenBytes;
        unsigned int added[4] = {0, 0, 0, 0};
        if constexpr (Config::kResidual) load_matrices_transposed(added, column);
        unsigned int matrices[4];
        if constexpr (kGated<Config>) {
          matrices[0] = matrices[1] = gated_pair(next);
          matrices[2] = matrices[3] = gated_pair(next + 4);
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) matrices[j] = pair(next + j / 2 * 4, j % 2 * 2, added[j]);
        }
        store_matrices_transposed(column, matrices);
      }
    }

    __device__ __forceinline__ void copy_out() {
      Barriers::meet_warpgroup(warpgroup());
      if (aligned(launch_.output, launch_.output_stride) && whole_piece()) {
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

    static constexpr int kChannels = channels_of<Config>(Config::kN);
    static constexpr int kPieces = channels_of<Config>(many_tokens::kWarpgroupRows) / 8;  // of one token
    static constexpr int kPassTokens = kWarpgroupThreads / kPieces;  // that all threads copy at a time
    static constexpr int kTokenBytes = shared_layout_of<Config>().passage_stride();
    static constexpr int kPassBytes = kPassTokens * kTokenBytes;
    static constexpr int kPasses = (kTogether * 8 + kPassTokens - 1) / kPassTokens;

    /// The sums of row g (c = 0) or g + 8 (c = 2) and two tokens, as they are written.
    __device__ __forceinline__ unsigned int pair(const float* sums, int c, unsigned int added) const {
      return pair_from_floats<Config::kOutput>(
          finished_sum(sums, c, low_to_float<Config::kOutput>(added)),
          finished_sum(sums, c + 1, high_to_float<Config::kOutput>(added)));
    }

    /// Those of the gate's row g and the other's, g + 8.
    __device__ __forceinline__ unsigned int gated_pair(const float* sums) const {
      return pair_from_floats<Config::kOutput>(
          gated<Config>(finished_sum(sums, 0, 0), finished_sum(sums, 2, 0)),
          gated<Config>(finished_sum(sums, 1, 0), finished_sum(sums, 3, 0)));
    }

    __device__ __forceinline__ float finished_sum(const float* sums, int c, float residual) const {
      return finished<Config>(sums[c], scales_[c / 2], biases_[c / 2], residual);
    }

    __device__ __forceinline__ bool whole_piece() const { return G::kWholeRows || row_ + 8 <= kChannels; }

    /// Whether 16 bytes of Y, or of R, can be moved at a time.
    static __device__ __forceinline__ bool aligned(const void* matrix, long long stride) {
      return reinterpret_cast<unsigned long long>(matrix) % 16 == 0 && stride % 8 == 0;
    }

    /// Of the staged pieces those elements that Y has, one at a time.
    __device__ __forceinline__ void write_elements() const {
#pragma unroll 1
      for (int i = 0; i < kPasses * 8; ++i) {
        const int token = i / 8 * kPassTokens;
        if (token_ + token >= launch_.tokens || row_ + i % 8 >= kChannels) continue;
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
    int row_;              ///< of Y, the piece's first
    int token_;            ///< of that piece, of the octets that are next
    unsigned short* to_;   ///< where that belongs
    float scales_[2] = {1, 1};
    float biases_[2] = {0, 0};
    uint4 residual_[kPasses];  ///< pieces of R, of the turn that is next
  };

  /// Writes a tile's sums to a Y of 32-bit floats, from where they are.
  template <class Unused>
  class Output<Element::f32, Unused> {
   public:
    __device__ __forceinline__ Output(const ManyTokensEpilogue& epilogue, const TileWalk<Config>& at)
        : launch_(epilogue.launch_) {
      const typename TileWalk<Config>::Place place = at.place();
      const unsigned int thread = Exchange::thread();
      const int row = place.row_tile * Config::kTileRows + row_group() * many_tokens::kWarpgroupRows +
                      thread / layout::kLanes * layout::kRecordRows;
      if constexpr (G::kPerChannel || Config::kBias) {
        epilogue.find_terms(scales_, biases_, row + thread % layout::kLanes / 4);
      }
      channel_ = channels_of<Config>(row) + thread % layout::kLanes / 4;
      token_ = place.token_tile * Config::kTileTokens + first_octet() * 8 + thread % 4 * 2;
      if constexpr (Config::kResidual) load_residual_of(0);
    }

    __device__ __forceinline__ void write_all(const float* sums) {
#pragma unroll
      for (int first = 0; first < kFinishedOctets; first += kTogether) {
        if (first >= finished_octets()) break;
        write(sums + 4 * first, first + kTogether < finished_octets());
      }
    }

    /// The next kTogether octets, one after another: the registers allow no more. Of the octet behind, if
    /// there is one, R is on its way meanwhile.
    __device__ __forceinline__ void write(const float* sums, bool more) {
#pragma unroll
      for (int octet = 0; octet < kTogether; ++octet) {
        float finished_sums[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          finished_sums[c] = finished<Config>(sums[4 * octet + c], scales_[c / 2], biases_[c / 2],
                                              Config::kResidual ? residual_[c] : 0);
        }
        if constexpr (Config::kResidual) {
          if (octet + 1 < kTogether) {
            load_residual_of(8 * (octet + 1));
          } else if (more) {
            load_residual_of(kNextTokens);
          }
        }
        for_each_element(8 * octet, [&](int c, int channel, int token) {
          float value = finished_sums[c];
          if constexpr (kGated<Config>) value = gated<Config>(value, finished_sums[c + 2]);
          write_output<Config>(launch_, token, channel, value);
        });
      }
      token_ += kNextTokens;
    }

   private:
    /// Calls use(c, channel, token) for those elements of Y that become of sum c of an octet, so many tokens
    /// on.
    template <class Use>
    __device__ __forceinline__ void for_each_element(int tokens_on, Use use) const {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (kGated<Config> && c / 2 == 1) continue;  // multiplied into the lower half
        const int channel = channel_ + c / 2 * 8;
        const int token = token_ + tokens_on + c % 2;
        if (token >= launch_.tokens || (!G::kWholeRows && channel >= channels_of<Config>(Config::kN)))
          continue;
        use(c, channel, token);
      }
    }

    /// What there is not becomes zeros.
    __device__ __forceinline__ void load_residual_of(int tokens_on) {
#pragma unroll
      for (float& element : residual_) element = 0;
      for_each_element(tokens_on, [&](int c, int channel, int token) {
        residual_[c] = residual_of<Config>(launch_, token, channel);
      });
    }

    const LaunchArguments& launch_;
    int channel_;  ///< of the lower half of rows
    int token_;    ///< of the first of two, of the octets that are next
    float scales_[2] = {1, 1};
    float biases_[2] = {0, 0};
    float residual_[4];  ///< what is added to the octet that is next
  };

  /// What rows `row` and `row` + 8 have for all k: a scale, a bias.
  __device__ __forceinline__ void find_terms(float (&scales)[2], float (&biases)[2], int row) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = G::kWholeRows ? row + 8 * half : min(row + 8 * half, Config::kN - 1);
      if constexpr (G::kPerChannel) {
        const long long offset = packed_layout_of<Config>().scale_offset(at, 0);
        scales[half] = to_float<Config::kElement>(load_scale(launch_.weights + offset));
      }
      biases[half] = bias_of<Config>(launch_, at);
    }
  }

  static __device__ __forceinline__ unsigned int staging() {
    return passage_place(warpgroup() * shared_layout_of<Config>().staged_tokens() * kPiecesOfARow);
  }

  const LaunchArguments& launch_;
};

}  // namespace lutsmith::device
