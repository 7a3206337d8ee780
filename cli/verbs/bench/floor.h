#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "lutsmith/error.h"
#include "lutsmith/target.h"
#include "runtime/driver.h"

namespace lutsmith::cli {

/// One way to launch the streaming floor.
struct FloorVariant {
  bool dependent = false;  ///< as a programmatic dependent launch
  int blocks_per_multiprocessor = 1;
  int threads = 512;
};

std::string describe(const FloorVariant& variant);

/// The streaming floor (templates/streaming_floor.cu) on this GPU: kernels that only read.
class StreamingFloor {
 public:
  static Result<StreamingFloor> create(const cuda::Driver& driver, const Target& target,
                                       const cuda::DeviceFacts& gpu);

  /// Those worth timing; the fastest is the floor.
  std::vector<FloorVariant> variants() const;

  /// Enqueues a read of `bytes`, a multiple of 16, from a 16-byte aligned address.
  Result<void> launch(const FloorVariant& variant, cuda::DevicePointer data, std::size_t bytes,
                      const cuda::Stream& stream) const;

 private:
  StreamingFloor() = default;

  const cuda::Driver* driver_ = nullptr;
  int multiprocessors_ = 1;
  bool dependent_launch_ = false;
  cuda::Module module_;
  cuda::FunctionHandle plain_ = nullptr;
  cuda::FunctionHandle dependent_ = nullptr;
  cuda::Buffer sink_;
};

}  // namespace lutsmith::cli
