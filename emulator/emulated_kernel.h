#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "emulator/grid.h"
#include "emulator/host_compiler.h"
#include "lutsmith/codegen.h"
#include "lutsmith/matmul.h"

namespace lutsmith::emulator {

/// One launch: Y [m, n] = X [m, k] * W^T, and what else the spec says, as Kernel::launch takes it, in memory
/// of the host. Each span is exactly what the kernel may touch.
struct EmulatedLaunch {
  std::span<const std::byte> weights;          ///< packed; the first byte at a multiple of 16
  std::span<const std::uint16_t> activations;  ///< X; the first element at a multiple of 16 bytes
  std::span<std::byte> output;                 ///< Y, in the spec's output_type()
  std::span<const std::uint16_t> table;
  std::int64_t m = 1;
  std::int64_t activation_stride = 0;  ///< elements between rows of X, a multiple of 8; 0: k
  std::int64_t output_stride = 0;      ///< elements between rows of Y; 0: n
  Partition partition;                 ///< of the source's launch for m tokens
  BlockOrder order = BlockOrder::ascending;
  std::span<const std::byte> residual = {};     ///< R, likewise, of a spec that has one; may be the output
  std::int64_t residual_stride = 0;             ///< elements between rows of R; 0: n
  std::span<const std::uint16_t> bias = {};     ///< of a spec that has one
  std::span<const std::int64_t> segments = {};  ///< rows of each, of a spec with segment_rows
};

/// An emitted source, compiled for this machine and executed by the emulator, thread by thread.
class EmulatedKernel {
 public:
  /// Compiles exactly source.text, which was rendered for `spec`, behind emulator/device/primitives.h. Errors
  /// of code compilation_failed have the compiler's messages as context.
  static Result<EmulatedKernel> compile(const HostCompiler& compiler, const KernelSpec& spec,
                                        const Source& source);

  /// Runs the grid. Errors: invalid_argument naming the field of `launch`, before anything runs;
  /// kernel_fault, which tells what the kernel did wrong (see run_grid).
  Result<void> launch(const EmulatedLaunch& launch) const;

 private:
  using Entry = void (*)(Machine*, const void* parameter);

  EmulatedKernel(std::shared_ptr<void> library, Entry entry, const KernelSpec& spec,
                 const LaunchRecipe& recipe)
      : library_(std::move(library)), entry_(entry), spec_(spec), recipe_(recipe) {}

  Result<void> check(const EmulatedLaunch& launch, const MatmulArguments& arguments) const;

  std::shared_ptr<void> library_;
  Entry entry_;
  KernelSpec spec_;
  LaunchRecipe recipe_;
};

}  // namespace lutsmith::emulator
