#pragma once

#include "templates/geometry.cuh"
#include "templates/memory.cuh"

// A lane's share of X for one unit, in registers as the B operand of mma.m16n8k16: token g of each
// group of 8, and of every 32 k the 8 that start at 8 t: one 16-byte load for two mma.

namespace lutsmith::device {

template <class Config>
struct Activations {
  using G = Geometry<Config>;
  static constexpr int kVectors = layout::kRecordColumns / 32;

  uint4 x[G::kTokenGroups][kVectors];

  /// Tokens and k beyond the matrix read as zero.
  __device__ __forceinline__ void load(const LaunchArguments& launch, const Cursor<Config>& at, int warp,
                                       int lane) {
    if (!at.has_unit(warp)) return;
    const int column = at.column_block(warp) * layout::kRecordColumns + lane % 4 * 8;
#pragma unroll
    for (int group = 0; group < G::kTokenGroups; ++group) {
      const int row = group * 8 + lane / 4;
      const int token = at.token_tile * Config::kTileTokens + row;
      const bool present = row < Config::kTileTokens && token < launch.tokens;
      const unsigned short* first = launch.activations + token * launch.activation_stride + column;
#pragma unroll
      for (int vector = 0; vector < kVectors; ++vector) {
        const bool inside = present && (G::kWholeColumns || column + vector * 32 < Config::kK);
        x[group][vector] = inside ? load_activations_16(first + vector * 32) : make_uint4(0, 0, 0, 0);
      }
    }
  }

  /// The B registers of an mma of the unit.
  __device__ __forceinline__ unsigned int b0(int group, int mma) const {
    return mma % 2 == 0 ? x[group][mma / 2].x : x[group][mma / 2].z;
  }
  __device__ __forceinline__ unsigned int b1(int group, int mma) const {
    return mma % 2 == 0 ? x[group][mma / 2].y : x[group][mma / 2].w;
  }
};

}  // namespace lutsmith::device
