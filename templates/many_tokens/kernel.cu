// The kernel for many tokens. The generator sets the constants of Config and the name; as it stands here the
// file compiles too, for sm_90a.

#include "templates/abi/element.h"
#include "templates/abi/gate.h"

namespace lutsmith::device {

struct Config {
  // What is computed.
  static constexpr int kBits = 4;
  static constexpr int kGroup = 128;  // 0: one scale per output channel
  static constexpr int kN = 4096;
  static constexpr int kK = 4096;
  static constexpr Element kElement = Element::f16;
  static constexpr bool kPairTable = false;
  static constexpr bool kRowTables = false;
  static constexpr bool kOffsets = false;
  static constexpr bool kSegments = false;
  static constexpr bool kResidual = false;
  static constexpr bool kBias = false;
  static constexpr Gate kGate = Gate::none;
  static constexpr Element kOutput = Element::f16;
  // How.
  static constexpr int kTileRows = 128;
  static constexpr int kTileTokens = 64;
  static constexpr int kKGroups = 2;
  static constexpr int kClusterBlocks = 1;
  static constexpr int kCommitSteps = 4;
  static constexpr int kActivationStages = 8;
  static constexpr int kWeightStages = 8;
  static constexpr bool kDependentLaunch = true;
  static constexpr bool kCompactTable = false;  // the gaps have other uses
};

}  // namespace lutsmith::device

#include "templates/look_up/pair_table.cuh"
#include "templates/look_up/segments.cuh"
#include "templates/many_tokens/multiply.cuh"

namespace lutsmith::device {

using Kernel = ManyTokens<Config, WithTables<Config, LookUp<OneRecord<Config>>>>;

}  // namespace lutsmith::device

extern "C" __global__ void __launch_bounds__(lutsmith::device::Kernel::G::kThreads, 1)
    lutsmith_kernel(const __grid_constant__ lutsmith::device::Kernel::Parameter parameter) {
  lutsmith::device::Kernel::run(parameter, lutsmith::device::dynamic_shared());
}
