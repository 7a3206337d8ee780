#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cli/verbs/run/multiply.h"
#include "emulator/emulated_kernel.h"
#include "emulator/host_compiler.h"
#include "lutsmith/codegen.h"

namespace lutsmith::cli {

/// A product by an emitted kernel that ran on the CPU.
struct EmulatedProduct {
  Schedule schedule;
  std::string kernel_name;
  bool compiled = false;            ///< now; else the source was compiled for an earlier layer
  double compile_milliseconds = 0;  ///< of the host compiler; next to nothing where it was not asked
  std::vector<float> values;        ///< Y [m, output channels] row-major
};

/// Multiplies packed layers with the kernels of the cost model's first choice, executed by the emulator.
class Emulation {
 public:
  /// Error where the machine has no C++ compiler.
  static Result<Emulation> start();

  /// Y = X * W^T of the layer with these inputs for spec.m tokens, and what the spec makes of it. Errors of
  /// code kernel_fault tell what the kernel did wrong.
  Result<EmulatedProduct> multiply(const KernelSpec& spec, const LayerInputs& inputs);

 private:
  explicit Emulation(emulator::HostCompiler compiler) : compiler_(std::move(compiler)) {}

  struct Compiled {
    const emulator::EmulatedKernel* kernel = nullptr;
    bool now = false;
  };
  Result<Compiled> compiled(const KernelSpec& spec, const Source& source);

  emulator::HostCompiler compiler_;
  std::map<std::string, emulator::EmulatedKernel> kernels_;  ///< by the text of their source
};

}  // namespace lutsmith::cli
