#pragma once

#include "templates/few_tokens/geometry.cuh"
#include "templates/primitives/global_memory.cuh"

// A lane's share of X for one unit, in registers as the B operand of mma.m16n8k16: token g of each
// octet, and of every 32 k the 8 that start at 8 t: one 16-byte load for two mma.
//
// Of a single token seven of the eight columns would be zeros, and its loads would bring an eighth of what
// they cost. There column j of B belongs to mma j of the unit: a lane keeps the k of mma g alone, four of
// them in one 8-byte load, and gives zeros to the others. The columns of the sums are added at the end of a
// tile.
//
//          column:   0   1   2  ..  7                column:   0   1   2  ..  7
//   mma 0            x   .   .      .         mma 1            .   x   .      .        ...

namespace lutsmith::device {

/// Each has the B registers of an mma of the unit, b0 and b1, `column` being lane / 4.
template <class Config, bool one_token = Geometry<Config>::kOneToken>
struct Activations {
  using G = Geometry<Config>;
  static constexpr int kVectors = layout::kRecordColumns / 32;

  uint4 x[G::kTokenOctets][kVectors];

  __device__ __forceinline__ unsigned int b0(int octet, int mma, int /*column*/) const {
    return mma % 2 == 0 ? x[octet][mma / 2].x : x[octet][mma / 2].z;
  }
  __device__ __forceinline__ unsigned int b1(int octet, int mma, int /*column*/) const {
    return mma % 2 == 0 ? x[octet][mma / 2].y : x[octet][mma / 2].w;
  }
};

template <class Config>
struct Activations<Config, true> {
  static_assert(layout::kMmaPerRecord == 8, "a column for each");

  uint2 x;

  __device__ __forceinline__ unsigned int b0(int /*octet*/, int mma, int column) const {
    return column == mma ? x.x : 0;
  }
  __device__ __forceinline__ unsigned int b1(int /*octet*/, int mma, int column) const {
    return column == mma ? x.y : 0;
  }
};

/// Loads the activations of one warp, for one token.
template <class Config, bool one_token = Geometry<Config>::kOneToken>
class ActivationLoader {
 public:
  __device__ __forceinline__ ActivationLoader(const LaunchArguments& launch, int warp, int lane)
      : launch_(launch),
        first_column_(warp * layout::kRecordColumns + lane / 8 * 32 + lane % 4 * 8 + lane / 4 % 2 * 4) {}

  /// Turns to a tile of tokens.
  __device__ __forceinline__ void find_tokens(int token) {
    first_ = launch_.activations + token * launch_.activation_stride + first_column_;
  }

  /// The activations of a step. k beyond the matrix reads as zero.
  __device__ __forceinline__ void load(Activations<Config>& to, int step) const {
    const int column = step * Config::kWarps * layout::kRecordColumns;
    const bool inside = Geometry<Config>::kNoRaggedEnd || first_column_ + column < Config::kK;
    to.x = load_activations_8(first_ + column, inside);
  }

 private:
  const LaunchArguments& launch_;
  const unsigned short* first_;
  int first_column_;
};

/// For several.
template <class Config>
class ActivationLoader<Config, false> {
 public:
  using G = Geometry<Config>;

  __device__ __forceinline__ ActivationLoader(const LaunchArguments& launch, int warp, int lane)
      : launch_(launch), first_column_(warp * layout::kRecordColumns + lane % 4 * 8), lane_(lane) {}

  /// Turns to a tile of tokens.
  __device__ __forceinline__ void find_tokens(int token_tile) {
#pragma unroll
    for (int octet = 0; octet < G::kTokenOctets; ++octet) {
      const int token = token_tile * Config::kTileTokens + octet * 8 + lane_ / 4;
      present_[octet] = token < launch_.tokens;
      first_[octet] = launch_.activations + token * launch_.activation_stride + first_column_;
    }
  }

  /// The activations of a step. Tokens and k beyond the matrix read as zero.
  __device__ __forceinline__ void load(Activations<Config>& to, int step) const {
    const int column = step * Config::kWarps * layout::kRecordColumns;
#pragma unroll
    for (int octet = 0; octet < G::kTokenOctets; ++octet) {
#pragma unroll
      for (int vector = 0; vector < Activations<Config>::kVectors; ++vector) {
        const int offset = column + vector * 32;
        const bool inside = present_[octet] && (G::kNoRaggedEnd || first_column_ + offset < Config::kK);
        to.x[octet][vector] = load_activations_16(first_[octet] + offset, inside);
      }
    }
  }

 private:
  const LaunchArguments& launch_;
  const unsigned short* first_[G::kTokenOctets];
  bool present_[G::kTokenOctets];
  int first_column_;
  int lane_;
};

}  // namespace lutsmith::device
