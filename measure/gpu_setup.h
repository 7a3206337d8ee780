#pragma once

#include <memory>
#include <optional>
#include <string>

#include "lutsmith/error.h"
#include "lutsmith/target.h"
#include "measure/cublas.h"
#include "measure/cuda_device.h"
#include "measure/product.h"
#include "measure/streaming_floor.h"

namespace lutsmith::measure {

/// The GPU of the current context, and what kernels are compared with there: one that only reads, and cuBLAS.
struct GpuSetup {
  /// Makes a context current where there is none. Error, saying so, where there is no GPU that kernels can be
  /// made for.
  static Result<GpuSetup> open();

  std::unique_ptr<CudaDevice> device;
  Target target;
  StreamingFloor floor;
  std::optional<DenseProduct> dense;  ///< nothing where cuBLAS is not installed
  std::string cublas_note;            ///< why not
};

}  // namespace lutsmith::measure
