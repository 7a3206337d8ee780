#pragma once

#include "templates/few_tokens/activations.cuh"
#include "templates/primitives/arithmetic.cuh"

// Sums of X over the k of a group, which its offset is multiplied by: products with an A operand of ones.
// Every row of such a product is the sum, so a lane has the sums of those tokens that its sums of products
// are of.
//
// Of a single token column j of B has the k of mma j alone, in registers that are masked for each mma. One
// product of them all as they are gives every column's sum.

namespace lutsmith::device {

/// Twice 1, as A has it.
template <Element element>
__device__ __forceinline__ constexpr unsigned int pair_of_ones() {
  return element == Element::bf16 ? 0x3f803f80u : 0x3c003c00u;
}

/// For weights without offsets: none.
template <class Config, bool offsets = Config::kOffsets, bool one_token = Geometry<Config>::kOneToken>
class ActivationSums {
 public:
  __device__ __forceinline__ ActivationSums(const Activations<Config>&, int /*lane*/) {}
  __device__ __forceinline__ void begin(int /*group*/) {}
};

/// Of one token.
template <class Config>
class ActivationSums<Config, true, true> {
 public:
  using G = Geometry<Config>;

  __device__ __forceinline__ ActivationSums(const Activations<Config>& activations, int lane) : lane_(lane) {
    constexpr unsigned int kOne = pair_of_ones<Config::kElement>();
    const unsigned int ones[4] = {kOne, kOne, kOne, kOne};
    multiply_accumulate<Config::kElement>(columns_, ones, activations.x.x, activations.x.y);
  }

  /// Turns to a group of the unit: those of a lane's columns that are another's have nothing to add.
  __device__ __forceinline__ void begin(int group) {
    constexpr int kColumns = layout::kMmaPerRecord / G::kUnitGroups;
    static_assert(kColumns % 2 == 0, "both columns of a lane are of one group");
    present_ = lane_ % 4 * 2 / kColumns == group;
  }

  __device__ __forceinline__ float of(int /*octet*/, int c) const { return present_ ? columns_[c % 2] : 0; }

 private:
  float columns_[4] = {0, 0, 0, 0};
  bool present_ = false;
  int lane_;
};

/// Of several.
template <class Config>
class ActivationSums<Config, true, false> {
 public:
  using G = Geometry<Config>;

  __device__ __forceinline__ ActivationSums(const Activations<Config>& activations, int lane)
      : activations_(activations), lane_(lane) {}

  /// Turns to a group of the unit.
  __device__ __forceinline__ void begin(int group) {
    constexpr int kGroupMma = layout::kMmaPerRecord / G::kUnitGroups;
    constexpr unsigned int kOne = pair_of_ones<Config::kElement>();
    const unsigned int ones[4] = {kOne, kOne, kOne, kOne};
#pragma unroll
    for (int octet = 0; octet < G::kTokenOctets; ++octet) {
#pragma unroll
      for (int c = 0; c < 4; ++c) sums_[octet][c] = 0;
#pragma unroll
      for (int mma = group * kGroupMma; mma < (group + 1) * kGroupMma; ++mma) {
        multiply_accumulate<Config::kElement>(sums_[octet], ones, activations_.b0(octet, mma, lane_ / 4),
                                              activations_.b1(octet, mma, lane_ / 4));
      }
    }
  }

  __device__ __forceinline__ float of(int octet, int c) const { return sums_[octet][c]; }

 private:
  const Activations<Config>& activations_;
  int lane_;
  float sums_[G::kTokenOctets][4];
};

}  // namespace lutsmith::device
