#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lutsmith/target.h"
#include "measure/device.h"
#include "measure/rotation.h"
#include "measure/timing.h"

namespace lutsmith::measure {

/// One way to launch the streaming floor.
struct FloorVariant {
  bool dependent = false;  ///< as a programmatic dependent launch
  int blocks_per_multiprocessor = 1;
};

std::string describe(const FloorVariant& variant);

/// Cubin of templates/streaming_floor.cu, by the NVRTC that the environment leads to.
Result<std::vector<std::byte>> compile_streaming_floor(const Target& target);

/// The streaming floor: kernels that only read. None that needs the same bytes can be faster.
class StreamingFloor {
 public:
  /// `cubin` is of templates/streaming_floor.cu; `dependent_launch`: whether the GPU has it.
  static Result<StreamingFloor> create(Device& device, std::span<const std::byte> cubin,
                                       bool dependent_launch);

  /// Those worth timing; the fastest is the floor.
  std::vector<FloorVariant> variants() const;

  /// Enqueues a read of `bytes`, a multiple of 16, from a 16-byte aligned address.
  Result<void> launch(const FloorVariant& variant, const std::byte* data, std::size_t bytes) const;

 private:
  StreamingFloor() = default;

  int multiprocessors_ = 1;
  bool dependent_launch_ = false;
  std::unique_ptr<DeviceKernel> plain_;
  std::unique_ptr<DeviceKernel> dependent_;
  std::unique_ptr<Memory> sink_;
};

/// One contender for each variant, which reads `bytes` of every copy in `pool`.
Result<std::vector<Contender>> floor_contenders(Device& device, const StreamingFloor& floor,
                                                const RotatingPool& pool, std::size_t bytes);

struct FloorTime {
  double microseconds = 0;
  std::string variant;
};

struct FloorTimes {
  FloorTime plain;
  std::optional<FloorTime> dependent;  ///< nothing where the GPU has no dependent launch
};

/// The fastest of either kind. `microseconds[i]` is of `variants[i]`.
FloorTimes fastest(std::span<const FloorVariant> variants, std::span<const double> microseconds);

}  // namespace lutsmith::measure
