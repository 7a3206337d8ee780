#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lutsmith/matmul.h"
#include "measure/cublas.h"
#include "measure/device.h"
#include "measure/random_weights.h"
#include "measure/rotation.h"
#include "measure/streaming_floor.h"
#include "measure/timing.h"

namespace lutsmith::measure {

/// Enqueues Y = X * W^T, and what the spec makes of it, on the device's stream. The kernel under test may
/// choose the partitions.
using Multiply = std::function<Result<void>(const MatmulArguments& arguments)>;

/// Weights and tokens of one product, on the device and as the reference knows them.
class Product {
 public:
  /// Uploads the weights, in as many copies as a rotation has. `device` and `weights` must outlive the
  /// product.
  static Result<Product> create(Device& device, const RandomWeights& weights);
  /// Uploads what a kernel for `spec` reads besides weights, whose format the spec has: activations for m
  /// tokens, a residual and a bias; and computes what they should give. Before anything else; contenders made
  /// for another spec are not to be replayed any more.
  Result<void> set_tokens(const KernelSpec& spec);

  /// Right before fast: launches once, on the last copy of the weights, into an output full of not-a-numbers.
  /// The relative error against float64, or an error where the result is wrong.
  Result<double> check(const Multiply& kernel);
  /// Launches, each on its own copy of the weights.
  Result<Contender> contender(std::string name, const Multiply& kernel);

  Device& device() const { return *device_; }
  const WeightFormat& format() const { return weights_->format; }
  const RandomTokens& tokens() const { return tokens_; }
  std::size_t packed_bytes() const { return weights_->packed.size(); }
  const RotatingPool& packed() const { return packed_; }
  const void* activations() const { return activations_->data(); }
  void* output() const { return output_->data(); }

  /// Makes every value of Y a not-a-number.
  Result<void> poison_output();
  /// Waits, then reads a Y [m, channels] of that type, at most n channels and no wider than the spec's.
  Result<std::vector<float>> read_output(std::int64_t channels, OutputType type);

 private:
  Product(Device& device, const RandomWeights& weights)
      : device_(&device), weights_(&weights), packed_(device) {}
  MatmulArguments arguments(int launch) const;
  std::size_t output_bytes(std::int64_t channels, OutputType type) const;

  Device* device_;
  const RandomWeights* weights_;
  RotatingPool packed_;
  KernelSpec spec_;
  RandomTokens tokens_;
  std::unique_ptr<Memory> activations_;
  std::unique_ptr<Memory> output_;  ///< room for [m, n]: cuBLAS writes that where a kernel's gates leave half
  std::unique_ptr<Memory> residual_;
  std::unique_ptr<Memory> bias_;
};

/// The dense product of the same n, k and m by cuBLAS, whatever a kernel makes of its sums. Its weights stay
/// on the device from one product to the next, where they are large enough.
class DenseProduct {
 public:
  /// `device` must outlive it.
  DenseProduct(Device& device, Cublas cublas) : cublas_(std::move(cublas)), weights_(device) {}

  const Cublas& cublas() const { return cublas_; }

  /// cuBLAS with the tokens of `product`, whose output it overwrites. Its result is checked too. The
  /// contender of the product before is not to be replayed any more: its weights may have moved.
  Result<Contender> contender(Product& product);

 private:
  void make_pattern(DataType dtype);
  Result<void> check(Product& product) const;

  Cublas cublas_;
  RotatingPool weights_;
  std::optional<DataType> dtype_;
  std::vector<std::uint16_t> pattern_;  ///< element i of the pool is element i % size of this
};

/// What the kernels of a product are compared with, in microseconds per launch.
struct Bounds {
  std::optional<double> cublas;
  FloorTimes floor;
};

struct Comparison {
  std::vector<Statistics> kernels;  ///< in the order that they were given in
  Bounds bounds;
};

/// Times kernels of a product in turns with cuBLAS (none where `dense` is null) and the streaming floor.
Result<Comparison> compare(Product& product, std::vector<Contender> kernels, DenseProduct* dense,
                           const StreamingFloor& floor, const TimingOptions& options = {});

}  // namespace lutsmith::measure
