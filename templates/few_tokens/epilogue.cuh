#pragma once

#include "templates/few_tokens/geometry.cuh"
#include "templates/few_tokens/shared_memory.h"
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
      for_each_element([&](int element, int row, int token) {
        const float sum = from_parts ? K::add_parts(parts, element) : add_warps(buffer, row, token);
        if (complete) {
          write(product, row, token, sum);
        } else {
          store_partial_sum(parts.own + element, sum);
        }
      });
      if (complete || !K::last_to_arrive(product.launch_, parts, flag)) break;
      complete = true;
    }
    product.buffer_ ^= 1;
    Product::clear(product.sums_);
  }

 private:
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

  /// Calls use(element, row, token) for this thread's elements of the tile.
  template <class Use>
  static __device__ __forceinline__ void for_each_element(Use use) {
#pragma unroll 1
    for (int element = thread_index(); element < K::kSlotFloats; element += G::kThreads) {
      use(element, element % Config::kTileRows, element / Config::kTileRows);
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

  template <class Product>
  static __device__ __forceinline__ void write(const Product& product, int tile_row, int tile_token,
                                               float sum) {
    const int row = product.at_.row_tile * Config::kTileRows + tile_row;
    const int token = product.at_.token_tile * Config::kTileTokens + tile_token;
    if (token >= product.launch_.tokens || (!G::kWholeRows && row >= Config::kN)) return;
    if constexpr (G::kPerChannel) sum *= channel_scale(product.launch_.weights, row);
    store_output(product.launch_.output + token * product.launch_.output_stride + row,
                 from_float<Config::kElement>(sum));
  }

  static __device__ __forceinline__ float channel_scale(const unsigned char* weights, int row) {
    const long long offset = packed_layout_of<Config>().scale_offset(row, 0);
    return to_float<Config::kElement>(load_scale(weights + offset));
  }
};

}  // namespace lutsmith::device
