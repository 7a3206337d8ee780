// The kernel. The generator sets the constants of Config, the weight stream among the includes below it and
// the name; as it stands here the file compiles too.

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
  static constexpr int kTileRows = 32;
  static constexpr int kTileTokens = 8;
  static constexpr int kWarps = 16;
  static constexpr int kStages = 2;
  static constexpr int kBlocksPerMultiprocessor = 1;
  static constexpr bool kDependentLaunch = false;
  static constexpr bool kCompactTable = kTileTokens <= 8;
};

}  // namespace lutsmith::device

#include "templates/few_tokens/multiply.cuh"
#include "templates/look_up/pair_table.cuh"
#include "templates/look_up/segments.cuh"
#include "templates/weights/registers.cuh"

namespace lutsmith::device {

using Kernel = FewTokens<Config, WeightStream<Config>, WithTables<Config, LookUp<Config>>>;

}  // namespace lutsmith::device

extern "C" __global__ void __launch_bounds__(lutsmith::device::Geometry<lutsmith::device::Config>::kThreads,
                                             lutsmith::device::Config::kBlocksPerMultiprocessor)
    lutsmith_kernel(const __grid_constant__ lutsmith::device::Kernel::Parameter parameter) {
  lutsmith::device::Kernel::run(parameter, lutsmith::device::dynamic_shared());
}
