#pragma once

#include "templates/few_tokens/geometry.cuh"
#include "templates/primitives/global_memory.cuh"

// A lane's share of X for one unit, in registers as the B operand of mma.m16n8k16: token g of each
// octet, and of every 32 k the 8 that start at 8 t: one 16-byte load for two mma.

namespace lutsmith::device {

template <class Config>
struct Activations {
  using G = Geometry<Config>;
  static constexpr int kVectors = layout::kRecordColumns / 32;

  uint4 x[G::kTokenOctets][kVectors];

  /// The B registers of an mma of the unit.
  __device__ __forceinline__ unsigned int b0(int octet, int mma) const {
    return mma % 2 == 0 ? x[octet][mma / 2].x : x[octet][mma / 2].z;
  }
  __device__ __forceinline__ unsigned int b1(int octet, int mma) const {
    return mma % 2 == 0 ? x[octet][mma / 2].y : x[octet][mma / 2].w;
  }
};

/// Loads the activations of one warp.
template <class Config>
class ActivationLoader {
 public:
  using G = Geometry<Config>;

  __device__ __forceinline__ ActivationLoader(const LaunchArguments& launch, int warp, int lane)
      : launch_(launch), first_column_(warp * layout::kRecordColumns + lane % 4 * 8), lane_(lane) {}

  /// Turns to a tile of tokens.
  __device__ __forceinline__ void find_tokens(int token_tile) {
#pragma unroll
    for (int octet = 0; octet < G::kTokenOctets; ++octet) {
      const int row = octet * 8 + lane_ / 4;
      const int token = token_tile * Config::kTileTokens + row;
      present_[octet] = row < Config::kTileTokens && token < launch_.tokens;
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
        const bool inside = present_[octet] && (kNoRaggedEnd || first_column_ + offset < Config::kK);
        to.x[octet][vector] = load_activations_16(first_[octet] + offset, inside);
      }
    }
  }

 private:
  static constexpr bool kNoRaggedEnd = G::kWholeColumns && G::kWholeSteps;

  const LaunchArguments& launch_;
  const unsigned short* first_[G::kTokenOctets];
  bool present_[G::kTokenOctets];
  int first_column_;
  int lane_;
};

}  // namespace lutsmith::device
