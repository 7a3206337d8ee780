#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "lutsmith/error.h"
#include "lutsmith/target.h"

namespace lutsmith {

/// What a compiler makes of a source.
struct CompiledKernel {
  std::vector<std::byte> cubin;
  int registers = 0;  ///< per thread
  int static_shared_bytes = 0;
  int spill_bytes = 0;  ///< stores plus loads
  std::string log;
};

/// Turns CUDA source into a cubin. Thread-safe.
class Compiler {
 public:
  Compiler() = default;
  Compiler(const Compiler&) = delete;
  Compiler& operator=(const Compiler&) = delete;
  virtual ~Compiler() = default;

  /// Release and build: whatever can change what it puts out, changes this.
  virtual const std::string& identity() const = 0;
  /// Options it compiles with for a target, one per line.
  virtual std::string options(Target target) const = 0;
  /// `kernel` is the extern "C" kernel of `source`. Errors: unsupported for a target that this compiler
  /// does not know, compilation_failed with its log.
  virtual Result<CompiledKernel> compile(const std::string& source, Target target,
                                         const std::string& kernel) const = 0;
};

}  // namespace lutsmith
