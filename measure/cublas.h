#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lutsmith/weight_format.h"
#include "measure/device.h"

namespace lutsmith::measure {

/// Where a cuBLAS may be. It needs cuBLASLt, which the loader does not look for beside it by itself.
struct CublasPlace {
  std::string cublas_lt;
  std::string cublas;
};

/// cuBLAS 13 and 12 by the loader's own search, then in the usual folders of a toolkit.
std::vector<CublasPlace> usual_cublas_places();

/// cuBLAS, opened at run time: the dense product that a quantized one replaces.
class Cublas {
 public:
  /// The first that opens, with a workspace of its own so that its calls can be recorded. `device` must
  /// outlive it. Error where the library is not installed.
  static Result<Cublas> open(Device& device, std::span<const CublasPlace> places);

  Cublas(Cublas&& other) noexcept;
  Cublas& operator=(Cublas&& other) noexcept;
  ~Cublas();

  /// 13.1.0.3 as 130100.
  int version() const { return version_; }

  /// Enqueues Y [m, n] = X [m, k] * W [n, k]^T, row-major, 16-bit with fp32 sums.
  Result<void> multiply(DataType dtype, std::int64_t m, std::int64_t n, std::int64_t k,
                        const void* activations, const void* weights, void* output) const;

 private:
  struct Api {
    int (*create)(void** handle);
    int (*destroy)(void* handle);
    int (*version)(void* handle, int* version);
    int (*set_stream)(void* handle, cuda::StreamHandle stream);
    int (*set_workspace)(void* handle, void* workspace, std::size_t bytes);
    int (*multiply)(void* handle, int transpose_a, int transpose_b, int rows, int columns, int depth,
                    const void* alpha, const void* a, int a_type, int a_stride, const void* b, int b_type,
                    int b_stride, const void* beta, void* c, int c_type, int c_stride, int compute_type,
                    int algorithm);
  };

  Cublas(const Api& api, Device& device, void* handle) : api_(api), device_(&device), handle_(handle) {}
  static Result<Api> load(std::span<const CublasPlace> places);

  Api api_;
  Device* device_;
  void* handle_ = nullptr;
  int version_ = 0;
  std::unique_ptr<Memory> workspace_;
};

}  // namespace lutsmith::measure
