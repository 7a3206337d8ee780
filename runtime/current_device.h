#pragma once

#include <cstdint>

#include "choices/document.h"
#include "lutsmith/target.h"
#include "runtime/driver.h"

namespace lutsmith {

/// The CUDA context of the calling thread: asked once for each request and handed down.
struct CurrentContext {
  /// Makes the primary context of device 0 current where there is none.
  static Result<CurrentContext> ask(const cuda::Driver& driver);

  const cuda::Driver* driver = nullptr;
  cuda::ContextHandle handle = nullptr;
  std::uint64_t id = 0;  ///< which no other context of the process has or will have; handles are used again
};

/// The GPU of a context, as far as kernels depend on it.
struct CurrentDevice {
  /// `context` must be current. Errors: unsupported for a GPU that is too old or too new; driver_error.
  static Result<CurrentDevice> ask(const CurrentContext& context);

  CurrentContext context;
  Target target;
  int multiprocessors = 0;
  choices::Gpu gpu;                ///< the same as a model of GPU, for which choices are tuned
  int shared_bytes_per_block = 0;  ///< largest a block can opt in to
};

}  // namespace lutsmith
