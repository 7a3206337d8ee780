#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/packed_file.h"
#include "cli/verbs/run/activations.h"
#include "lutsmith/codegen.h"
#include "lutsmith/quantization.h"

namespace lutsmith::cli {

/// What multiplies.
enum class Device { gpu, emulator, cpu_reference };

const char* to_string(Device device);

/// Where the multiplication happens and what is compiled.
struct RunPlan {
  Device device = Device::cpu_reference;
  std::string no_gpu_reason;
  std::vector<Target> targets;  ///< the first is the GPU's where it multiplies; the emulator has one
  std::string record = {};      ///< file to record requests in; empty: none
  KernelSpec spec = {};         ///< of its fields those of kEpilogueFields count, for all layers
};

/// A kernel that a layer needed.
struct UsedKernel {
  Target target;
  Schedule schedule;
  std::string name;
  bool compiled = false;  ///< now; else it was there already
  double compile_milliseconds = 0;
  std::string key;          ///< in the cache; empty where the emulator ran it, which has no cache
  std::string cache = "-";  ///< "hit", "miss"
};

struct LayerResult {
  PackedLayer layer;
  std::uint64_t bytes_before = 0;  ///< of the tensor that was quantized
  std::uint64_t bytes_after = 0;
  std::string activations;  ///< "gaussian" or a tensor
  std::string note;         ///< why not the tensor that one would expect; else empty
  ProductError error;
  std::vector<UsedKernel> kernels;  ///< one per target

  /// Whether every product is what rounding leaves of the right one, and some product is other than zero, or
  /// all are because the original weights are.
  bool right() const;
  /// What is wrong, in a few words; empty where it is right.
  std::string fault() const;
};

/// Multiplies every layer, one after another and with one in memory at a time. The error names the layer.
Result<std::vector<LayerResult>> run_layers(const std::vector<StoredLayer>& layers, const RunPlan& plan,
                                            ActivationSource& source);

}  // namespace lutsmith::cli
