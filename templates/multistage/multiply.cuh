#pragma once

#include "templates/look_up/contract.cuh"
#include "templates/multistage/activations.cuh"
#include "templates/multistage/epilogue.cuh"
#include "templates/primitives/arithmetic.cuh"
#include "templates/primitives/dependent_launch.cuh"
#include "templates/primitives/pairs.cuh"
#include "templates/weights/contract.cuh"

// Y = X * W^T for many tokens without warpgroup products: the problem transposed as for few tokens, weights
// are the A operand of mma.sync and tokens its n. X goes through stages in shared memory, which all row
// shares of the tile read; every warp brings its own weights. docs/kernels.md counts what a unit costs.

namespace lutsmith::device {

template <class Config, class Weights, class Engine>
class Multistage {
  static_assert(WeightStreamContract<Weights, WarpShare<Config>>::kKept);
  static_assert(LookUpContract<Engine, WarpShare<Config>>::kKept);

 public:
  using G = MultistageGeometry<Config>;
  using Parameter = typename Engine::Parameter;

  static __device__ __forceinline__ void run(const Parameter& parameter, unsigned char* shared) {
    release_dependents<Config::kDependentLaunch>();
    const int warp = thread_index() / layout::kLanes;
    const int k_group = Config::kKGroups == 1 ? 0 : warp / G::kRowWarps;
    const GroupWalk<Config> first(parameter.launch, k_group);
    Weights weights(shared + multistage_layout_of<Config>().rings_offset(), parameter.launch.weights,
                    Walk<WarpShare<Config>>(first), warp, thread_index() % layout::kLanes);
    weights.prime();
    if constexpr (Config::kSegments) {
      const int row_tile = first_row_tile(parameter.launch);
      Engine::fill_first(shared, parameter, row_tile, thread_index(), G::kThreads);
    } else {
      Engine::fill(shared, parameter, thread_index(), G::kThreads);
    }
    Engine look_up(shared, parameter);
    if constexpr (Config::kRowTables) load_tables(look_up, WaveWalk<G>(parameter.launch));
    wait_for_dependency<Config::kDependentLaunch>();
    Multistage(parameter, shared, look_up, first, k_group).multiply(weights);
  }

 private:
  using Sums = float[G::kRecords][G::kOctets][4];
  /// A of the two mma of a vector.
  using Fragments = unsigned int[2][G::kRecords][4];
  static constexpr int kGroups = WeightUnit<WarpShare<Config>>::kScaleWords;  // of a unit
  /// Scales are applied to the fp32 sums of a group, or to A.
  static constexpr bool kScaleSums = kGroups > 0 && Config::kScaleSums;
  static constexpr bool kScaleWeights = kGroups > 0 && !Config::kScaleSums;
  static_assert(!Config::kOffsets || kScaleWeights, "an offset is no factor of a sum");
  static constexpr int kGroupVectors = kGroups > 0 ? G::kUnitVectors / kGroups : G::kUnitVectors;

  __device__ __forceinline__ Multistage(const Parameter& parameter, unsigned char* shared,
                                        const Engine& look_up, const GroupWalk<Config>& first, int k_group)
      : launch_(parameter.launch),
        shared_(shared),
        look_up_(look_up),
        activations_(parameter.launch, shared, first, k_group),
        k_group_(k_group) {
    if constexpr (Config::kSegments) look_up_.turn_to(first_row_tile(parameter.launch));
    clear(sums_);
  }

  static __device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
#pragma unroll
      for (int octet = 0; octet < G::kOctets; ++octet) {
#pragma unroll
        for (int c = 0; c < 4; ++c) sums[record][octet][c] = 0;
      }
    }
  }

  /// Segment by segment. `next` counts units from the partition's begin; this group has every kKGroups-th.
  __device__ __forceinline__ void multiply(Weights& weights) {
    WaveWalk<G> at(launch_);
    activations_.prime();
    block_barrier();  // the engine is filled
    int parity = 0;
    int end = 0;
    int next = k_group_;
#pragma unroll 1
    while (at.units_left > 0) {
      const int segment = at.segment();
      end += segment;
      if constexpr (Config::kSegments) turn_table(at);
      look_up_.begin_segment(row_share(at), thread_index() % layout::kLanes);
      multiply_units(weights, next, end, parity);
      if constexpr (Config::kRowTables) {
        // The last look-ups are done: those of the tile behind this one come while its sums are written.
        WaveWalk<G> behind = at;
        behind.next_segment();
        load_tables(look_up_, behind);
      }
      MultistageEpilogue<Config>(launch_, shared_).finish_segment(at, sums_, segment == G::kStepsPerTile);
      clear(sums_);
      at.next_segment();
    }
  }

  /// Those of the warp's rows.
  static __device__ __forceinline__ void load_tables(Engine& look_up, const WaveWalk<G>& at) {
    if (at.units_left > 0) look_up.load_tables(row_share(at), thread_index() % layout::kLanes);
  }

  /// To that of the tile's segment.
  __device__ __forceinline__ void turn_table(const WaveWalk<G>& at) {
    if (!look_up_.turn_to(at.place().row_tile)) return;
    block_barrier();  // nobody looks up for the last tile any more
    look_up_.refill(thread_index(), G::kThreads);
    block_barrier();
  }

  /// Of a block; where it has no units, any will do.
  static __device__ __forceinline__ int first_row_tile(const LaunchArguments& launch) {
    const WaveWalk<G> first(launch);
    return first.units_left > 0 ? first.place().row_tile : 0;
  }

  /// Which of all shares of rows the warp has.
  static __device__ __forceinline__ int row_share(const WaveWalk<G>& at) {
    return at.place().row_tile * G::kRowWarps + thread_index() / layout::kLanes % G::kRowWarps;
  }

  /// The parity names registers of a weight stream, so the two units of the loop are written out.
  __device__ __forceinline__ void multiply_units(Weights& weights, int& next, int end, int& parity) {
#pragma unroll 1
    while (next < end) {
      if (parity == 0) {
        unit(weights, 0);
        parity = 1;
        next += Config::kKGroups;
        if (next >= end) return;
      }
      unit(weights, 1);
      parity = 0;
      next += Config::kKGroups;
    }
  }

  __device__ __forceinline__ void unit(Weights& weights, int parity) {
    weights.begin_step(parity);
    accumulate(weights.take(parity));
    weights.release(parity, consumed());
  }

  /// A number that depends on every code of the unit just multiplied.
  __device__ __forceinline__ float consumed() const {
    float sum = sums_[0][0][0];
#pragma unroll
    for (int record = 1; record < G::kRecords; ++record) sum += sums_[record][0][0];
    return sum;
  }

  /// Vector by vector: the look-ups of one stand before the products of the last, so that they overlap.
  template <class Unit>
  __device__ __forceinline__ void accumulate(const Unit& unit) {
    Fragments a[2];
    Sums products;
    make(a[0], unit, 0);
#pragma unroll
    for (int vector = 0; vector < G::kUnitVectors; ++vector) {
      const bool new_stage = vector % G::kStageVectors == 0;
      if (new_stage) activations_.begin_stage();
      if (vector + 1 < G::kUnitVectors) make(a[(vector + 1) % 2], unit, vector + 1);
      if (kScaleSums && vector % kGroupVectors == 0) clear(products);
      multiply_vector(kScaleSums ? products : sums_, a[vector % 2], vector % G::kStageVectors);
      if (kScaleSums && (vector + 1) % kGroupVectors == 0)
        add_products(unit, products, vector / kGroupVectors);
      if (new_stage) activations_.refill();
    }
  }

  /// Looks up the codes of 32 k.
  template <class Unit>
  __device__ __forceinline__ void make(Fragments& a, const Unit& unit, int vector) const {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        look_up_.look_up(a[i][record], unit, record, 2 * vector + i);
        if constexpr (kScaleWeights) scale(a[i][record], unit, record, vector / kGroupVectors);
      }
    }
  }

  /// One more rounding to 16 bits, of scale times table value, plus offset where the format has them.
  template <class Unit>
  static __device__ __forceinline__ void scale(unsigned int (&a)[4], const Unit& unit, int record,
                                               int group) {
    const unsigned int scales = unit.scales[record][group];
    const unsigned int low = select_bytes(scales, scales, 0x1010);  // of row g, twice
    const unsigned int high = select_bytes(scales, scales, 0x3232);
    if constexpr (Config::kOffsets) {
      const unsigned int offsets = unit.offsets[record][group];
      const unsigned int low_offset = select_bytes(offsets, offsets, 0x1010);
      const unsigned int high_offset = select_bytes(offsets, offsets, 0x3232);
      a[0] = multiply_add_pairs<Config::kElement>(a[0], low, low_offset);
      a[1] = multiply_add_pairs<Config::kElement>(a[1], high, high_offset);
      a[2] = multiply_add_pairs<Config::kElement>(a[2], low, low_offset);
      a[3] = multiply_add_pairs<Config::kElement>(a[3], high, high_offset);
    } else {
      a[0] = multiply_pairs<Config::kElement>(a[0], low);
      a[1] = multiply_pairs<Config::kElement>(a[1], high);
      a[2] = multiply_pairs<Config::kElement>(a[2], low);
      a[3] = multiply_pairs<Config::kElement>(a[3], high);
    }
  }

  __device__ __forceinline__ void multiply_vector(Sums& sums, const Fragments& a, int vector) const {
#pragma unroll
    for (int octet = 0; octet < G::kOctets; ++octet) {
      const uint4 x = activations_.read(octet, vector);
#pragma unroll
      for (int record = 0; record < G::kRecords; ++record) {
        multiply_accumulate<Config::kElement>(sums[record][octet], a[0][record], x.x, x.y);
      }
#pragma unroll
      for (int record = 0; record < G::kRecords; ++record) {
        multiply_accumulate<Config::kElement>(sums[record][octet], a[1][record], x.z, x.w);
      }
    }
  }

  template <class Unit>
  __device__ __forceinline__ void add_products(const Unit& unit, const Sums& products, int scale_group) {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
      // Of rows g and g + 8.
      const float scale[2] = {low_to_float<Config::kElement>(unit.scales[record][scale_group]),
                              high_to_float<Config::kElement>(unit.scales[record][scale_group])};
#pragma unroll
      for (int octet = 0; octet < G::kOctets; ++octet) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          float& sum = sums_[record][octet][c];
          sum = multiply_add(scale[c / 2], products[record][octet][c], sum);
        }
      }
    }
  }

  const LaunchArguments& launch_;
  unsigned char* shared_;
  Engine look_up_;
  ActivationStages<Config> activations_;
  int k_group_;
  Sums sums_;
};

}  // namespace lutsmith::device
