#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/verbs/bench/session.h"
#include "lutsmith/service.h"

namespace lutsmith::cli {

/// A kernel under test: a schedule (nothing: the model's first choice) and a number of partitions (0: the
/// library's choice).
struct BenchVariant {
  std::optional<Schedule> schedule;
  int partitions = 0;
};

/// What the kernels are compared with, in microseconds per launch.
struct BenchBounds {
  std::optional<double> cublas;
  double floor = 0;
  std::string floor_variant;
  std::optional<double> floor_dependent;  ///< nothing where the GPU has no dependent launch
  std::string floor_dependent_variant;
};

/// Weights and tokens of one product, on the GPU and as the reference knows them.
class BenchCase {
 public:
  /// Uploads the weights; `weights` must outlive the case.
  static Result<BenchCase> create(BenchSession& session, const BenchWeights& weights);
  /// Uploads activations for m tokens and computes what they should give.
  Result<void> set_tokens(std::int64_t m);

  /// Launches once into a poisoned output. The relative error, or an error where the result is wrong.
  Result<double> check(const Kernel& kernel, int partitions);
  /// A graph of launches, each on its own copy of the weights.
  Result<Contender> kernel_contender(const Kernel& kernel, int partitions);

  /// cuBLAS (its result checked too) and the variants of the floor. Nothing is timed here.
  Result<void> prepare_bounds();
  /// Times kernels, cuBLAS and floors in turn: one number per kernel, and the bounds.
  Result<std::vector<double>> measure_all(std::vector<Contender> kernels, BenchBounds& bounds,
                                          const TimingOptions& options = {});

  std::int64_t tokens() const { return tokens_.m; }
  std::size_t packed_bytes() const { return weights_->packed.size(); }
  const Rotation& rotation() const { return rotation_; }

 private:
  BenchCase(BenchSession& session, const BenchWeights& weights, const Rotation& rotation)
      : session_(&session), weights_(&weights), rotation_(rotation) {}
  MatmulArguments arguments(int launch, int partitions) const;
  Result<void> check_dense() const;
  Result<void> prepare_cublas();
  Result<void> prepare_floors();

  BenchSession* session_;
  const BenchWeights* weights_;
  Rotation rotation_;
  BenchTokens tokens_;
  std::optional<Contender> cublas_;
  std::vector<FloorVariant> floor_variants_;
  std::vector<Contender> floors_;
};

/// Compiles on all cores, so that `Service::get` finds every kernel ready. Failures are met again there.
void compile_all(Service& service, std::span<const std::pair<KernelSpec, std::optional<Schedule>>> kernels);

}  // namespace lutsmith::cli
