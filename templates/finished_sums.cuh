#pragma once

#include "templates/abi/gate.h"
#include "templates/abi/kernel_arguments.h"
#include "templates/abi/packed_layout.h"
#include "templates/few_tokens/geometry.cuh"
#include "templates/primitives/added_terms.cuh"
#include "templates/primitives/arithmetic.cuh"
#include "templates/primitives/exponentials.cuh"
#include "templates/primitives/global_memory.cuh"

// From the fp32 sum of a tile's element to Y, the same in every family: the scale of its channel, where that
// is one for all k, what is added, the gate, and the rounding to Y's type. By whoever completes a tile, once:
// none of these may be applied to the parts of a sum.

namespace lutsmith::device {

template <class Config>
inline constexpr bool kAdds = Config::kBias || Config::kResidual;
template <class Config>
inline constexpr bool kGated = Config::kGate != Gate::none;

/// Whether Y and R are floats of 32 bits. Then they go from and to the threads that have the sums: the eight
/// lanes that have a token's neighbouring rows fill a sector of 32 bytes. Of 16-bit floats they would fill
/// half of one, so what writes tiles collects more of them first.
template <class Config>
inline constexpr bool kWideOutput = Config::kOutput == Element::f32;

template <Element element>
struct ElementBits {
  using Type = unsigned short;
};
template <>
struct ElementBits<Element::f32> {
  using Type = float;
};

/// An element of Y or R.
template <class Config>
using OutputBits = typename ElementBits<Config::kOutput>::Type;

/// Where an element of Y is, and one of R.
template <class Config>
__device__ __forceinline__ OutputBits<Config>* output_at(const LaunchArguments& launch, int token,
                                                         int channel) {
  return static_cast<OutputBits<Config>*>(launch.output) + token * launch.output_stride + channel;
}
template <class Config>
__device__ __forceinline__ const OutputBits<Config>* residual_at(const LaunchArguments& launch, int token,
                                                                 int channel) {
  return static_cast<const OutputBits<Config>*>(launch.residual) + token * launch.residual_stride + channel;
}

/// One element of R, and one of Y.
template <class Config>
__device__ __forceinline__ float residual_of(const LaunchArguments& launch, int token, int channel) {
  const OutputBits<Config> bits = load_residual(residual_at<Config>(launch, token, channel));
  if constexpr (kWideOutput<Config>) {
    return bits;
  } else {
    return to_float<Config::kOutput>(bits);
  }
}
template <class Config>
__device__ __forceinline__ void write_output(const LaunchArguments& launch, int token, int channel,
                                             float value) {
  OutputBits<Config>* to = output_at<Config>(launch, token, channel);
  if constexpr (kWideOutput<Config>) {
    store_output(to, value);
  } else {
    store_output(to, from_float<Config::kOutput>(value));
  }
}

/// Channels of Y that so many rows of the weights make.
template <class Config>
LUTSMITH_HOST_DEVICE constexpr int channels_of(int rows) {
  return kGated<Config> ? rows / 2 : rows;
}

/// The bias of a channel that there is; 0 where there is none.
template <class Config>
__device__ __forceinline__ float bias_of(const LaunchArguments& launch, int row) {
  if constexpr (Config::kBias) {
    return to_float<Config::kElement>(load_bias(launch.bias + row));
  } else {
    return 0;
  }
}

/// Sum and scale of a channel with what is added: the bias and the residual, which are added to each other
/// first. All families do this in one order, so that a token's bits do not depend on the family.
template <class Config>
__device__ __forceinline__ float finished(float sum, float scale, float bias, float residual) {
  constexpr bool kScales = packed_layout_of<Config>().scales_of_sums();
  if constexpr (kAdds<Config>) {
    const float added = !Config::kResidual ? bias : !Config::kBias ? residual : bias + residual;
    return kScales ? multiply_add(sum, scale, added) : sum + added;
  } else {
    return kScales ? sum * scale : sum;
  }
}

/// activation(gate) * up. Both activations are g * sigmoid(s): silu with s = g, and gelu with
/// s = 2 * sqrt(2 / pi) * (g + 0.044715 * g^3), since (1 + tanh(u)) / 2 is sigmoid(2 * u). Of gates down to
/// -80 the relative error is below 2^-16, most of it the rounding of the exponent; those below give 0 or less
/// than 2^-100.
template <class Config>
__device__ __forceinline__ float gated(float gate, float up) {
  constexpr float kLog2E = 1.44269504f;
  float exponent;  // -s / ln 2
  if constexpr (Config::kGate == Gate::gelu_tanh) {
    constexpr float kLinear = 2 * 0.797884561f * kLog2E;
    exponent = gate * multiply_add(gate * gate, -0.044715f * kLinear, -kLinear);
  } else {
    exponent = -kLog2E * gate;
  }
  return gate * reciprocal(1 + power_of_two(exponent)) * up;
}

}  // namespace lutsmith::device
