#pragma once

#include "templates/activations.cuh"
#include "templates/arithmetic.cuh"
#include "templates/dependent_launch.cuh"
#include "templates/pair_table.cuh"
#include "templates/shared_memory.h"
#include "templates/stream_k.cuh"
#include "templates/weight_unit.cuh"

// Y = X * W^T for few tokens: the problem transposed, so that weights are the A operand of the tensor
// cores (16 rows) and tokens its n. The warps of a block stand side by side along K and add their sums
// in shared memory at the end of a tile.

namespace lutsmith::device {

template <class Config, class Weights>
class Decode {
 public:
  using G = Geometry<Config>;
  using K = StreamK<Config>;
  using Table = PairTable<Config>;
  using Parameter = typename Table::Parameter;

  static __device__ __forceinline__ void run(const Parameter& parameter, unsigned char* shared) {
    release_dependents<Config::kDependentLaunch>();
    const LaunchArguments& launch = parameter.launch;
    const int warp = static_cast<int>(threadIdx.x) / layout::kLanes;
    const int lane = static_cast<int>(threadIdx.x) % layout::kLanes;
    const int token_tiles = (launch.tokens + Config::kTileTokens - 1) / Config::kTileTokens;
    const int first = K::first_step(launch, static_cast<int>(blockIdx.x));
    const int end = K::first_step(launch, static_cast<int>(blockIdx.x) + 1);
    const Cursor<Config> start(first, end - first, token_tiles);

    Weights weights(shared + kRingOffset, launch.weights, start, warp, lane);
    weights.prime();
    Table::fill(shared, parameter, static_cast<int>(threadIdx.x), G::kThreads);
    wait_for_dependency<Config::kDependentLaunch>();

    Decode decode(launch, shared, start, warp, lane);
    decode.load_first_activations();
    __syncthreads();  // the table
    decode.multiply(weights);
  }

 private:
  static constexpr int kTableBytes = shared_memory::table_bytes(Config::kBits);
  static constexpr int kReductionStride = shared_memory::reduction_stride(Config::kTileRows);
  static constexpr int kReductionFloats =
      shared_memory::reduction_bytes(Config::kTileRows, Config::kTileTokens, Config::kWarps) / 4;
  static constexpr int kRingOffset =
      shared_memory::ring_offset(Config::kBits, Config::kTileRows, Config::kTileTokens, Config::kWarps);

  /// A warp's activations stay in registers for the whole launch where a tile has at most two steps.
  static constexpr bool kResident = G::kStepsPerTile <= 2;
  static constexpr int kActivationSlots = G::kStepsPerTile == 1 ? 1 : 2;

  using Sums = float[G::kRecords][G::kTokenGroups][4];

  __device__ __forceinline__ Decode(const LaunchArguments& launch, unsigned char* shared,
                                    const Cursor<Config>& start, int warp, int lane)
      : launch_(launch),
        table_(shared),
        reduction_(reinterpret_cast<float*>(shared + kTableBytes)),
        at_(start),
        activations_ahead_(start),
        segment_start_(start.step),
        warp_(warp),
        lane_(lane) {
    clear(sums_);
  }

  static __device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
    for (int i = 0; i < G::kRecords * G::kTokenGroups * 4; ++i) {
      sums[i / 4 / G::kTokenGroups][i / 4 % G::kTokenGroups][i % 4] = 0;
    }
  }

  __device__ __forceinline__ void load_first_activations() {
#pragma unroll
    for (int slot = 0; slot < kActivationSlots; ++slot) load_activations(slot);
  }

  __device__ __forceinline__ void load_activations(int slot) {
    activations_[slot].load(launch_, activations_ahead_, warp_, lane_);
    activations_ahead_.advance();
  }

  __device__ __forceinline__ void multiply(Weights& weights) {
    while (!at_.at_end()) {
#pragma unroll
      for (int slot = 0; slot < Weights::kSlots; ++slot) {
        if (at_.at_end()) break;
        step(weights, slot);
      }
    }
  }

  /// `slot` is a constant once the loop is unrolled, and so are the registers it names.
  __device__ __forceinline__ void step(Weights& weights, int slot) {
    Activations<Config>& activations = activations_[slot % kActivationSlots];
    if (at_.has_unit(warp_)) {
      if (kResident && at_.token_tiles > 1) activations.load(launch_, at_, warp_, lane_);
      accumulate(weights.take(slot), activations);
    }
    weights.release(slot, consumed());
    if constexpr (!kResident) load_activations(slot % kActivationSlots);
    if (at_.last_of_tile() || at_.steps_left == 1) finish_segment();
    at_.advance();
  }

  /// A number that depends on every code of the unit just multiplied.
  __device__ __forceinline__ float consumed() const {
    float sum = sums_[0][0][0];
#pragma unroll
    for (int record = 1; record < G::kRecords; ++record) sum += sums_[record][0][0];
    return sum;
  }

  template <class Unit>
  __device__ __forceinline__ void accumulate(const Unit& unit, const Activations<Config>& activations) {
    if constexpr (G::kPerChannel) {
      multiply_group(sums_, unit, activations, 0, layout::kMmaPerRecord);
    } else {
      constexpr int kGroupMma = layout::kMmaPerRecord / G::kUnitGroups;
#pragma unroll
      for (int group = 0; group < G::kUnitGroups; ++group) {
        Sums products;
        clear(products);
        multiply_group(products, unit, activations, group * kGroupMma, kGroupMma);
        add_scaled(unit, products, group);
      }
    }
  }

  template <class Unit>
  __device__ __forceinline__ void multiply_group(Sums& sums, const Unit& unit,
                                                 const Activations<Config>& activations, int first_mma,
                                                 int count) {
    const unsigned int lane_offset = static_cast<unsigned int>(lane_) * 4;
#pragma unroll
    for (int mma = first_mma; mma < first_mma + count; ++mma) {
#pragma unroll
      for (int record = 0; record < G::kRecords; ++record) {
        unsigned int a[4];
        Table::look_up(a, table_, unit.nibbles(record, mma), lane_offset);
#pragma unroll
        for (int group = 0; group < G::kTokenGroups; ++group) {
          multiply_accumulate<Config::kElement>(sums[record][group], a, activations.b0(group, mma),
                                                activations.b1(group, mma));
        }
      }
    }
  }

  /// The scale once per group on the fp32 sums, not once per weight.
  template <class Unit>
  __device__ __forceinline__ void add_scaled(const Unit& unit, const Sums& products, int scale_group) {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
      const unsigned int pair = unit.scales[record][scale_group];
      const float scale = low_to_float<Config::kElement>(pair);
      const float scale_8 = high_to_float<Config::kElement>(pair);
#pragma unroll
      for (int group = 0; group < G::kTokenGroups; ++group) {
        float(&sum)[4] = sums_[record][group];
        const float(&product)[4] = products[record][group];
        sum[0] += scale * product[0];
        sum[1] += scale * product[1];
        sum[2] += scale_8 * product[2];
        sum[3] += scale_8 * product[3];
      }
    }
  }

  /// The partition leaves the tile: its sums go to Y, or to a slot where the tile is cut.
  __device__ __forceinline__ void finish_segment() {
    float* buffer = reduction_ + buffer_ * kReductionFloats;
    store_sums(buffer + warp_ * Config::kTileTokens * kReductionStride);
    __syncthreads();
    const bool whole = segment_start_ == 0 && at_.last_of_tile();
    if (whole) {
      for_each_element(
          [&](int element, int row, int token) { write(row, token, add_warps(buffer, row, token)); });
    } else {
      float* slot = K::slot(launch_, static_cast<int>(blockIdx.x), at_.tile());
      for_each_element([&](int element, int row, int token) {
        store_partial_sum(slot + element, add_warps(buffer, row, token));
      });
      fix_up();
    }
    buffer_ ^= 1;
    segment_start_ = 0;
    clear(sums_);
  }

  __device__ __forceinline__ void store_sums(float* buffer) {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
#pragma unroll
      for (int group = 0; group < G::kTokenGroups; ++group) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int row = record * layout::kRecordRows + lane_ / 4 + c / 2 * 8;
          const int token = group * 8 + lane_ % 4 * 2 + c % 2;
          if (token < Config::kTileTokens) buffer[token * kReductionStride + row] = sums_[record][group][c];
        }
      }
    }
  }

  /// Calls use(element, row, token) for this thread's elements of the tile.
  template <class Use>
  __device__ __forceinline__ void for_each_element(Use use) const {
    for (int element = static_cast<int>(threadIdx.x); element < K::kSlotFloats; element += G::kThreads) {
      use(element, element % Config::kTileRows, element / Config::kTileRows);
    }
  }

  __device__ __forceinline__ float add_warps(const float* buffer, int row, int token) const {
    const float* first = buffer + token * kReductionStride + row;
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < Config::kWarps; ++warp) {
      sum += first[warp * Config::kTileTokens * kReductionStride];
    }
    return sum;
  }

  __device__ __forceinline__ void fix_up() {
    const int tile = at_.tile();
    const int first_partition = K::owner(launch_, tile * G::kStepsPerTile);
    const int last_partition = K::owner(launch_, tile * G::kStepsPerTile + G::kStepsPerTile - 1);
    const int parts = last_partition - first_partition + 1;
    int* flag = reinterpret_cast<int*>(reduction_ + 2 * kReductionFloats);
    if (!K::last_to_arrive(launch_, first_partition, parts, flag)) return;
    for_each_element([&](int element, int row, int token) {
      write(row, token, K::add_parts(launch_, tile, first_partition, parts, element));
    });
  }

  __device__ __forceinline__ void write(int tile_row, int tile_token, float sum) const {
    const int row = at_.row_tile * Config::kTileRows + tile_row;
    const int token = at_.token_tile * Config::kTileTokens + tile_token;
    if (token >= launch_.tokens || (!G::kWholeRows && row >= Config::kN)) return;
    if constexpr (G::kPerChannel) sum *= channel_scale(row);
    launch_.output[token * launch_.output_stride + row] = from_float<Config::kElement>(sum);
  }

  __device__ __forceinline__ float channel_scale(int row) const {
    const int record = row / layout::kRecordRows;
    const long long offset = G::kPlaneOffset + static_cast<long long>(record) * layout::kGroupScaleBytes +
                             layout::scale_index(row % layout::kRecordRows) * layout::kScaleBytes;
    return to_float<Config::kElement>(load_scale(launch_.weights + offset));
  }

  const LaunchArguments& launch_;
  const unsigned char* table_;
  float* reduction_;
  Cursor<Config> at_;
  Cursor<Config> activations_ahead_;
  Activations<Config> activations_[kActivationSlots];
  Sums sums_;
  int segment_start_;
  int buffer_ = 0;
  int warp_;
  int lane_;
};

}  // namespace lutsmith::device
