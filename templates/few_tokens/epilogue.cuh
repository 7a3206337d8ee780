#pragma once

#include "templates/few_tokens/geometry.cuh"
#include "templates/few_tokens/shared_memory.h"
#include "templates/finished_sums.cuh"
#include "templates/primitives/arithmetic.cuh"
#include "templates/primitives/global_memory.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/stream_k.cuh"

// The end of a segment, the part of a tile that lies in one partition: the sums of the warps, each over its
// own k, meet in shared memory, are added in the order of the warps and become Y, or a part of a cut tile.

namespace lutsmith::device {

/// Works on the state of the main loop, `product`: where it stands, the lane's sums, and two buffers that
/// take turns, so that one barrier a segment is enough.
template <class Config>
class Epilogue {
 public:
  using G = Geometry<Config>;
  using K = StreamK<G>;

  /// The partition leaves the tile. Where the tile is whole, one pass over its elements adds the warps
  /// and writes Y. Where it is cut, that pass writes this block's part instead, and the block that
  /// arrives last makes a second pass, which adds the parts and writes Y.
  template <class Product>
  static __device__ __forceinline__ void finish_segment(Product& product, bool whole) {
    float* buffer = product.reduction_ + product.buffer_ * kReductionFloats;
    int* flag = reinterpret_cast<int*>(product.reduction_ + 2 * kReductionFloats);
    store_sums(product, buffer + product.warp_ * Config::kTileTokens * kReductionStride);
    block_barrier();
    typename K::Parts parts;
    if (!whole) parts = K::parts_of(product.launch_, product.at_.tile(), block_index());
    bool complete = whole;
#pragma unroll 1
    while (true) {
      const bool from_parts = complete && !whole;
      const auto sum_of = [&](int element, int row, int token) {
        return from_parts ? K::add_parts(parts, element) : add_warps(buffer, row, token);
      };
      if constexpr (!kGated<Config>) {
        for_each<Config::kTileRows>([&](int element, int row, int token) {
          const Added added = complete ? load_added(product, row, token) : Added{};
          const float sum = sum_of(element, row, token);
          if (complete) {
            write(product, row, token, sum, added);
          } else {
            store_partial_sum(parts.own + element, sum);
          }
        });
      } else if (complete) {
        for_each<Config::kTileRows / 2>([&](int, int channel, int token) {
          const int row = channel / kGateRows * layout::kRecordRows + channel % kGateRows;
          const int element = token * Config::kTileRows + row;
          const float gate = sum_of(element, row, token);
          write_gated(product, row, token, gate, sum_of(element + kGateRows, row + kGateRows, token));
        });
      } else {
        for_each<Config::kTileRows>([&](int element, int row, int token) {
          store_partial_sum(parts.own + element, sum_of(element, row, token));
        });
      }
      if (complete || !K::last_to_arrive(product.launch_, parts, flag)) break;
      complete = true;
    }
    product.buffer_ ^= 1;
    Product::clear(product.sums_);
  }

 private:
  /// Rows of a gate that lie together, with as many of what it lets through behind them in the same record.
  static constexpr int kGateRows = layout::kRecordRows / 2;
  static constexpr int kReductionStride = shared_memory::reduction_stride(Config::kTileRows);
  static constexpr int kReductionFloats =
      shared_memory::reduction_bytes(Config::kTileRows, Config::kTileTokens, Config::kWarps) / 4;

  template <class Product>
  static __device__ __forceinline__ void store_sums(const Product& product, float* buffer) {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
#pragma unroll
      for (int octet = 0; octet < G::kTokenOctets; ++octet) {
        const float(&sums)[4] = product.sums_[record][octet];
        float* rows = buffer + octet * 8 * kReductionStride + record * layout::kRecordRows;
        if constexpr (G::kOneToken) {
          store_columns(sums, rows, product.lane_);
        } else {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const int row = product.lane_ / 4 + c / 2 * 8;
            const int token = product.lane_ % 4 * 2 + c % 2;
            store_shared(rows + token * kReductionStride + row, sums[c]);
          }
        }
      }
    }
  }

  /// The sums of one token lie in all columns, each over its own k.
  static __device__ __forceinline__ void store_columns(const float (&sums)[4], float* rows, int lane) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = sums[2 * half] + sums[2 * half + 1];
      sum += exchange_lanes(sum, 1);
      sum += exchange_lanes(sum, 2);
      if (lane % 4 == 0) store_shared(rows + half * 8 + lane / 4, sum);
    }
  }

  /// Calls use(element, row, token) for this thread's elements of a tile that has so many rows.
  template <int kRows, class Use>
  static __device__ __forceinline__ void for_each(Use use) {
#pragma unroll 1
    for (int element = thread_index(); element < kRows * Config::kTileTokens; element += G::kThreads) {
      use(element, element % kRows, element / kRows);
    }
  }

  static __device__ __forceinline__ float add_warps(const float* buffer, int row, int token) {
    const float* first = buffer + token * kReductionStride + row;
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < Config::kWarps; ++warp) {
      sum += load_shared(first + warp * Config::kTileTokens * kReductionStride);
    }
    return sum;
  }

  /// Where an element of the tile belongs.
  struct Place {
    int row;  ///< of the weights
    int token;
    bool exists;

    template <class Product>
    __device__ __forceinline__ Place(const Product& product, int tile_row, int tile_token)
        : row(product.at_.row_tile * Config::kTileRows + tile_row),
          token(product.at_.token_tile * Config::kTileTokens + tile_token),
          exists(token < product.launch_.tokens && (G::kWholeRows || row < Config::kN)) {}
  };

  struct Added {
    float bias = 0;
    float residual = 0;
  };

  /// Ahead of the sum, so that they are on their way while that is added up.
  template <class Product>
  static __device__ __forceinline__ Added load_added(const Product& product, int tile_row, int tile_token) {
    Added added;
    if constexpr (kAdds<Config>) {
      const Place at(product, tile_row, tile_token);
      if (!at.exists) return added;
      const LaunchArguments& launch = product.launch_;
      added.bias = bias_of<Config>(launch, at.row);
      if constexpr (Config::kResidual) {
        added.residual = residual_of<Config>(launch, at.token, at.row);
      }
    }
    return added;
  }

  template <class Product>
  static __device__ __forceinline__ void write(const Product& product, int tile_row, int tile_token,
                                               float sum, const Added& added) {
    const Place at(product, tile_row, tile_token);
    if (!at.exists) return;
    const LaunchArguments& launch = product.launch_;
    sum = finished<Config>(sum, channel_scale(launch, at.row), added.bias, added.residual);
    write_output<Config>(launch, at.token, at.row, sum);
  }

  template <class Product>
  static __device__ __forceinline__ void write_gated(const Product& product, int tile_row, int tile_token,
                                                     float gate, float up) {
    const Place at(product, tile_row, tile_token);
    if (!at.exists) return;
    const LaunchArguments& launch = product.launch_;
    gate = finished<Config>(gate, channel_scale(launch, at.row), 0, 0);
    up = finished<Config>(up, channel_scale(launch, at.row + kGateRows), 0, 0);
    const int channel = at.row / layout::kRecordRows * kGateRows + at.row % kGateRows;
    write_output<Config>(launch, at.token, channel, gated<Config>(gate, up));
  }

  static __device__ __forceinline__ float channel_scale(const LaunchArguments& launch, int row) {
    if constexpr (G::kPerChannel) {
      const long long offset = packed_layout_of<Config>().scale_offset(row, 0);
      return to_float<Config::kElement>(load_scale(launch.weights + offset));
    } else {
      return 1;
    }
  }
};

}  // namespace lutsmith::device
