#pragma once

#include <vector>

#include "lutsmith/kernel_spec.h"

namespace lutsmith::test {

/// Everything that a spec can make of its sums, in fp32 and in the format's own type, of one that makes
/// nothing.
inline std::vector<KernelSpec> with_epilogues(const KernelSpec& plain) {
  std::vector<KernelSpec> specs(7, plain);
  specs[0].residual = true;
  specs[1].bias = true;
  specs[2].residual = specs[2].bias = true;
  specs[3].gated = Gate::silu;
  specs[4].gated = Gate::gelu_tanh;
  specs[5].output = specs[6].output = OutputType::f32;
  specs[6].residual = specs[6].bias = true;
  return specs;
}

}  // namespace lutsmith::test
