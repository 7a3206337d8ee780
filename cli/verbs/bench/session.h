#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/verbs/bench/cublas.h"
#include "cli/verbs/bench/floor.h"
#include "cli/verbs/bench/problem.h"
#include "cli/verbs/bench/timing.h"
#include "lutsmith/service.h"
#include "runtime/driver.h"

namespace lutsmith::cli {

/// The GPU, the memory and the helpers that all measurements of one run share.
class BenchSession {
 public:
  /// Error, saying so, where there is no GPU that kernels can be made for.
  static Result<BenchSession> open();

  const cuda::Driver& driver() const { return *driver_; }
  const cuda::DeviceFacts& gpu() const { return gpu_; }
  const Target& target() const { return target_; }
  Service& service() { return service_; }
  Workspace& workspace() { return workspace_; }
  const cuda::Stream& stream() const { return stream_; }
  const StreamingFloor& floor() const { return floor_; }
  /// Null where cuBLAS is not installed; `cublas_note` says why then.
  const Cublas* cublas() const { return cublas_ ? &*cublas_ : nullptr; }
  const std::string& cublas_note() const { return cublas_note_; }

  /// Copies packed weights to every place of a rotation. The ones loaded before are gone.
  Result<Rotation> load_weights(std::span<const std::byte> packed);
  /// Fills a rotation of dense [n, k] matrices with the repeated values of `dense_pattern`.
  Result<Rotation> load_dense(DataType dtype, std::int64_t n, std::int64_t k);
  /// Uploads X and makes room for Y [m, n].
  Result<void> load_tokens(const std::vector<std::uint16_t>& activations, std::int64_t m, std::int64_t n);

  std::byte* weights(std::size_t offset) const { return static_cast<std::byte*>(weights_.data()) + offset; }
  std::byte* dense(std::size_t offset) const { return static_cast<std::byte*>(dense_.data()) + offset; }
  const void* activations() const { return activations_.data(); }
  void* output() const { return output_.data(); }

  /// Element i of the dense pool is element i % size of this.
  const std::vector<std::uint16_t>& dense_pattern() const { return dense_pattern_; }

  /// Makes every value of Y a NaN.
  Result<void> poison_output() const;
  /// Waits, then reads Y [m, n].
  Result<std::vector<std::uint16_t>> read_output() const;

 private:
  BenchSession(const cuda::Driver* driver, cuda::DeviceFacts gpu, Target target, Service service,
               Workspace workspace, cuda::Stream stream, StreamingFloor floor);
  void open_cublas();
  Result<void> reserve(cuda::Buffer& buffer, std::size_t bytes) const;

  const cuda::Driver* driver_;
  cuda::DeviceFacts gpu_;
  Target target_;
  Service service_;
  Workspace workspace_;
  cuda::Stream stream_;
  StreamingFloor floor_;
  std::optional<Cublas> cublas_;
  std::string cublas_note_;
  cuda::Buffer weights_;
  cuda::Buffer dense_;
  std::size_t dense_filled_ = 0;
  DataType dense_type_ = DataType::f16;
  std::vector<std::uint16_t> dense_pattern_;
  cuda::Buffer activations_;
  cuda::Buffer output_;
  std::size_t output_bytes_ = 0;
};

}  // namespace lutsmith::cli
