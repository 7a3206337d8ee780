#pragma once

#include "templates/few_tokens/activation_sums.cuh"
#include "templates/few_tokens/activations.cuh"
#include "templates/few_tokens/epilogue.cuh"
#include "templates/few_tokens/shared_memory.h"
#include "templates/look_up/contract.cuh"
#include "templates/primitives/arithmetic.cuh"
#include "templates/primitives/dependent_launch.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/stream_k.cuh"
#include "templates/weights/contract.cuh"

// Y = X * W^T for few tokens: the problem transposed, so that weights are the A operand of the tensor
// cores (16 rows) and tokens its n. The warps of a block stand side by side along K and add their sums
// in shared memory at the end of a tile.

namespace lutsmith::device {

template <class Config, class Weights, class Engine>
class FewTokens {
  friend class Epilogue<Config>;
  static_assert(WeightStreamContract<Weights, Config>::kKept);
  static_assert(LookUpContract<Engine, Config>::kKept);
  static_assert(Config::kCompactTable ==
                    (shared_memory::entry_stride(Config::kTileTokens) == pair_table::kCompactEntryStride),
                "the host asks for the table's bytes");

 public:
  using G = Geometry<Config>;
  using K = StreamK<G>;
  using Parameter = typename Engine::Parameter;

  static __device__ __forceinline__ void run(const Parameter& parameter, unsigned char* shared) {
    release_dependents<Config::kDependentLaunch>();
    const LaunchArguments& launch = parameter.launch;
    const int warp = thread_index() / layout::kLanes;
    const int lane = thread_index() % layout::kLanes;
    const int token_tiles = (launch.tokens + Config::kTileTokens - 1) / Config::kTileTokens;
    const int first = K::first_step(launch, block_index());
    const int end = K::first_step(launch, block_index() + 1);
    const bool idle = block_index() >= launch.sharing;
    const Walk<Config> start(first, idle ? 0 : end - first, token_tiles);

    Weights weights(shared + kRingOffset, launch.weights, start, warp, lane);
    weights.prime();
    if constexpr (Config::kSegments) {
      Engine::fill_first(shared, parameter, start.row_tile, thread_index(), G::kThreads);
    } else {
      Engine::fill(shared, parameter, thread_index(), G::kThreads);
    }
    Engine look_up(shared, parameter);
    if constexpr (Config::kRowTables) look_up.load_tables(start.row_tile, lane);
    weights.continue_priming();
    if constexpr (!kLooksAhead) wait_for_dependency<Config::kDependentLaunch>();

    FewTokens(parameter, shared, look_up, start, warp, lane).multiply(weights);
  }

 private:
  static constexpr int kRingOffset = shared_memory::ring_offset(Engine::kSharedBytes, Config::kTileRows,
                                                                Config::kTileTokens, Config::kWarps);

  /// Activations of two steps are in registers: activations_[i] has those of the i-th step from the start
  /// and of every second one after it. Where a tile has few steps those of all stay there for the whole
  /// launch, unless there are several tiles of tokens. Of one token, which takes the fewest registers, that
  /// goes up to four steps: they turn, so that activations_[0] has those of the step it stands at.
  static constexpr int kMostResident = G::kOneToken ? 4 : 2;
  static constexpr bool kResident = G::kStepsPerTile <= kMostResident;
  static constexpr int kActivationSteps = kResident ? G::kStepsPerTile : 2;
  static constexpr bool kTurn = kActivationSteps > 2;

  /// An mma waits for the sum it adds to, so few sums are doubled to have more of them under way.
  /// (Groups below 128 begin new sums often enough.)
  static constexpr int kChains = G::kRecords * G::kTokenOctets == 1 && G::kUnitGroups <= 1 ? 2 : 1;

  using Sums = float[G::kRecords][G::kTokenOctets][4];

  /// Where a stream holds all units that a warp has, a launch is so short that the chain behind the launch
  /// ahead is its time: X, look-ups, products, sums. Then the first unit is looked up before the wait, as far
  /// as registers go.
  ///
  ///   launch ahead  ...products | sums, Y |
  ///   this launch    table | weights | look-ups |  X | products | look-ups, products of the others | sums, Y
  static constexpr int kMostWarpsAhead = 16;  // of a multiprocessor: 128 registers for each thread
  static constexpr bool kShort = G::kRecords <= 2 && G::kStepsPerTile <= Weights::kHeld &&
                                 Config::kWarps * Config::kBlocksPerMultiprocessor <= kMostWarpsAhead;
  static constexpr bool kFewRegistersLeft = Weights::kInRegisters || Config::kRowTables;
  static constexpr int kMmaAheadOfOneToken = kFewRegistersLeft && G::kRecords > 1 ? 4 : 8;
  static constexpr int kMmaAheadOfAnOctet = Weights::kInRegisters || G::kTokenOctets > 1 ? 0 : 4;
  static constexpr int kMmaAhead =
      Config::kDependentLaunch && kShort ? (G::kOneToken ? kMmaAheadOfOneToken : kMmaAheadOfAnOctet) : 0;
  static constexpr bool kLooksAhead = kMmaAhead > 0;

  /// Of a unit's first mma, their A registers.
  struct LookedUp {
    static constexpr int kMma = kMmaAhead;
    WeightUnit<Config> unit;
    unsigned int a[G::kRecords][kMma > 0 ? kMma : 1][4];
  };
  struct NothingLookedUp {
    static constexpr int kMma = 0;
  };

  __device__ __forceinline__ FewTokens(const Parameter& parameter, unsigned char* shared,
                                       const Engine& look_up, const Walk<Config>& start, int warp, int lane)
      : launch_(parameter.launch),
        look_up_(look_up),
        reduction_(reinterpret_cast<float*>(shared + Engine::kSharedBytes)),
        at_(start),
        loader_(parameter.launch, warp, lane),
        ahead_(start),
        warp_(warp),
        lane_(lane) {
    if constexpr (Config::kSegments) look_up_.turn_to(start.row_tile);
    clear(sums_);
  }

  static __device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
#pragma unroll
      for (int octet = 0; octet < G::kTokenOctets; ++octet) {
#pragma unroll
        for (int c = 0; c < 4; ++c) sums[record][octet][c] = 0;
      }
    }
  }

  /// Segment by segment: the part of a tile that lies in this partition.
  __device__ __forceinline__ void multiply(Weights& weights) {
    LookedUp ahead;
    const bool looks_ahead = kLooksAhead && at_.steps_left > 0 && at_.steps_left <= Weights::kHeld;
    if (looks_ahead) {
      block_barrier();  // the engine is filled
      look_up_ahead(ahead, weights);
    }
    if constexpr (kLooksAhead) wait_for_dependency<Config::kDependentLaunch>();
    if constexpr (!kResident) {
      loader_.find_tokens(at_.token_tile);
      load_next_activations(0);
      load_next_activations(1);
    }
    int parity = 0;
    int done = 0;  // steps of the segment
    bool first = true;
    if (looks_ahead) {
      if constexpr (kResident) load_all_activations(0);
      first_step(weights, ahead);
      parity = done = 1;
      first = false;
    }
#pragma unroll 1
    while (at_.steps_left > 0) {
      if (kResident && done == 0 && (first || at_.token_tiles > 1)) load_all_activations(parity);
      if (first) block_barrier();  // the engine is filled
      first = false;
      if constexpr (Config::kSegments) turn_table();
      look_up_.begin_segment(at_.row_tile, lane_);
      const int steps = min(G::kStepsPerTile - at_.step, at_.steps_left);
      const bool reaches_end = at_.step + steps == G::kStepsPerTile;
      if (!kLooksAhead || steps > done) multiply_steps(weights, steps - done, reaches_end, parity);
      done = 0;
      if constexpr (Config::kRowTables) load_next_tables(steps);
      Epilogue<Config>::finish_segment(*this, at_.step == 0 && reaches_end);
      at_.steps_left -= steps;
      at_.next_tile();
    }
  }

  __device__ __forceinline__ void look_up_ahead(LookedUp& ahead, Weights& weights) {
    look_up_.begin_segment(at_.row_tile, lane_);
    weights.begin_step(0);
    if (!has_unit(at_.step)) return;
    ahead.unit = weights.take(0);
#pragma unroll
    for (int mma = 0; mma < kMmaAhead; ++mma) {
#pragma unroll
      for (int record = 0; record < G::kRecords; ++record) {
        look_up_.look_up(ahead.a[record][mma], ahead.unit, record, mma);
      }
    }
  }

  /// Whether this warp has a unit in that step of a tile, the last of which may be ragged.
  __device__ __forceinline__ bool has_unit(int step) const {
    return G::kWholeSteps || step * Config::kWarps + warp_ < G::kColumnPanels;
  }

  /// To that of the tile's segment. All warps are done with the last tile: their sums have met.
  __device__ __forceinline__ void turn_table() {
    if (!look_up_.turn_to(at_.row_tile)) return;
    look_up_.refill(thread_index(), G::kThreads);
    block_barrier();
  }

  /// Those of the tile behind this one, whose last look-ups are done: they come while its sums meet.
  __device__ __forceinline__ void load_next_tables(int steps) {
    if (at_.steps_left <= steps) return;
    Walk<Config> next = at_;
    next.next_tile();
    look_up_.load_tables(next.row_tile, lane_);
  }

  /// Resident: the activations of all steps of the tile. Of two steps, the one it stands at has `parity`.
  __device__ __forceinline__ void load_all_activations(int parity) {
    loader_.find_tokens(at_.token_tile);
    if constexpr (kTurn) {
      int step = at_.step;
#pragma unroll
      for (int i = 0; i < kActivationSteps; ++i) {
        loader_.load(activations_[i], step);
        step = step + 1 == G::kStepsPerTile ? 0 : step + 1;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kActivationSteps; ++i) {
        loader_.load(activations_[i], kActivationSteps == 1 ? 0 : (at_.step ^ parity ^ i) & 1);
      }
    }
  }

  /// To those of the next step. (An index that is no constant would send all of them to local memory.)
  __device__ __forceinline__ void turn_activations() {
    const Activations<Config> last = activations_[0];
#pragma unroll
    for (int i = 0; i + 1 < kActivationSteps; ++i) activations_[i] = activations_[i + 1];
    activations_[kActivationSteps - 1] = last;
  }

  /// Not resident: the activations of the step two steps on.
  __device__ __forceinline__ void load_next_activations(int parity) {
    loader_.load(activations_[parity], ahead_.step);
    if (ahead_.advance() && ahead_.token_tiles > 1) loader_.find_tokens(ahead_.token_tile);
  }

  /// The parity names registers, so the two steps of the loop are written out; it begins with the
  /// parity at which the last segment ended.
  __device__ __forceinline__ void multiply_steps(Weights& weights, int steps, bool reaches_end, int& parity) {
    do {
      if (parity == 0) {
        step(weights, 0, steps == 1 && reaches_end);
        parity = 1;
        if (--steps == 0) return;
      }
      step(weights, 1, steps == 1 && reaches_end);
      parity = 0;
    } while (--steps > 0);
  }

  __device__ __forceinline__ void step(Weights& weights, int parity, bool last_of_tile) {
    constexpr int kLastStepWarps = G::kColumnPanels - (G::kStepsPerTile - 1) * Config::kWarps;
    const bool has_unit = G::kWholeSteps || !last_of_tile || warp_ < kLastStepWarps;
    weights.begin_step(parity);
    if (has_unit) accumulate(weights.take(parity), activations_of(parity), NothingLookedUp());
    weights.release(parity, consumed());
    go_on(parity);
  }

  /// Of the first unit, which has been taken.
  __device__ __forceinline__ void first_step(Weights& weights, const LookedUp& ahead) {
    if (has_unit(at_.step)) accumulate(ahead.unit, activations_of(0), ahead);
    weights.release(0, consumed());
    go_on(0);
  }

  __device__ __forceinline__ Activations<Config>& activations_of(int parity) {
    return activations_[kTurn ? 0 : parity % kActivationSteps];
  }

  /// To the activations of the next step.
  __device__ __forceinline__ void go_on(int parity) {
    if constexpr (kTurn) turn_activations();
    if constexpr (!kResident) load_next_activations(parity);
  }

  /// A number that depends on every code of the unit just multiplied.
  __device__ __forceinline__ float consumed() const {
    float sum = sums_[0][0][0];
#pragma unroll
    for (int record = 1; record < G::kRecords; ++record) sum += sums_[record][0][0];
    return sum;
  }

  template <class Unit, class Ahead>
  __device__ __forceinline__ void accumulate(const Unit& unit, const Activations<Config>& activations,
                                             const Ahead& ahead) {
    constexpr int kGroups = G::kPerChannel ? 1 : G::kUnitGroups;
    constexpr int kGroupMma = layout::kMmaPerRecord / kGroups;
    ActivationSums<Config> activation_sums(activations, lane_);
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      Sums products[kChains];
#pragma unroll
      for (int chain = 0; chain < kChains; ++chain) clear(products[chain]);
#pragma unroll
      for (int mma = group * kGroupMma; mma < (group + 1) * kGroupMma; ++mma) {
        multiply_mma(products[mma % kChains], unit, activations, ahead, mma);
      }
      activation_sums.begin(group);
      add_products(unit, products, activation_sums, group);
    }
  }

  template <class Unit, class Ahead>
  __device__ __forceinline__ void multiply_mma(Sums& products, const Unit& unit,
                                               const Activations<Config>& activations, const Ahead& ahead,
                                               int mma) {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
      unsigned int a[4];
      fragment(a, unit, ahead, record, mma);
#pragma unroll
      for (int octet = 0; octet < G::kTokenOctets; ++octet) {
        multiply_accumulate<Config::kElement>(products[record][octet], a,
                                              activations.b0(octet, mma, lane_ / 4),
                                              activations.b1(octet, mma, lane_ / 4));
      }
    }
  }

  template <class Unit, class Ahead>
  __device__ __forceinline__ void fragment(unsigned int (&a)[4], const Unit& unit, const Ahead& ahead,
                                           int record, int mma) const {
    if constexpr (Ahead::kMma > 0) {
      if (mma < Ahead::kMma) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = ahead.a[record][mma][i];
        return;
      }
    }
    look_up_.look_up(a, unit, record, mma);
  }

  /// Scale and offset once per group, on the fp32 products and the sums of X, not once per weight; a
  /// channel's scale not even here.
  template <class Unit>
  __device__ __forceinline__ void add_products(const Unit& unit, const Sums (&products)[kChains],
                                               const ActivationSums<Config>& activation_sums,
                                               int scale_group) {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
      float scale[2] = {1, 1};  // of rows g and g + 8
      if constexpr (!G::kPerChannel) {
        scale[0] = low_to_float<Config::kElement>(unit.scales[record][scale_group]);
        scale[1] = high_to_float<Config::kElement>(unit.scales[record][scale_group]);
      }
      float offset[2] = {0, 0};
      if constexpr (Config::kOffsets) {
        offset[0] = low_to_float<Config::kElement>(unit.offsets[record][scale_group]);
        offset[1] = high_to_float<Config::kElement>(unit.offsets[record][scale_group]);
      }
#pragma unroll
      for (int octet = 0; octet < G::kTokenOctets; ++octet) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          float product = products[0][record][octet][c];
          if constexpr (kChains == 2) product += products[1][record][octet][c];
          float& sum = sums_[record][octet][c];
          if constexpr (Config::kOffsets)
            sum = multiply_add(offset[c / 2], activation_sums.of(octet, c), sum);
          sum = multiply_add(scale[c / 2], product, sum);
        }
      }
    }
  }

  const LaunchArguments& launch_;
  Engine look_up_;
  float* reduction_;
  Walk<Config> at_;
  ActivationLoader<Config> loader_;
  Walk<Config> ahead_;  ///< the step whose activations are loaded next
  Activations<Config> activations_[kActivationSteps];
  Sums sums_;
  int buffer_ = 0;
  int warp_;
  int lane_;
};

}  // namespace lutsmith::device
