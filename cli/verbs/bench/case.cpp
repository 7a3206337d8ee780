#include "cli/verbs/bench/case.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <utility>

#include "core/result.h"

namespace lutsmith::cli {
namespace {

constexpr std::int64_t kDenseRowsChecked = 64;

Error wrong_result(std::string_view what, double error, double allowed) {
  return {ErrorCode::driver_error,
          fmt::format("{} gave a wrong result: relative error {:.3g} against float64, at most {:.1e} is "
                      "rounding; no time is given",
                      what, error, allowed),
          ""};
}

}  // namespace

Result<BenchCase> BenchCase::create(BenchSession& session, const BenchWeights& weights) {
  Result<Rotation> rotation = session.load_weights(weights.packed);
  if (!rotation) return failure(rotation);
  return BenchCase(session, weights, *rotation);
}

Result<void> BenchCase::set_tokens(std::int64_t m) {
  Result<BenchTokens> tokens = make_tokens(*weights_, m);
  if (!tokens) return failure(tokens);
  tokens_ = std::move(*tokens);
  return session_->load_tokens(tokens_.activations, m, weights_->spec.format.n);
}

MatmulArguments BenchCase::arguments(int launch, int partitions) const {
  return {.weights = session_->weights(rotation_.offset(launch)),
          .activations = session_->activations(),
          .output = session_->output(),
          .table = weights_->table,
          .m = tokens_.m,
          .partitions = partitions};
}

Result<double> BenchCase::check(const Kernel& kernel, int partitions) {
  Result<void> done = session_->poison_output();
  // The last copy of the weights, so that the copies are checked as well.
  if (done) {
    done = kernel.launch(arguments(rotation_.sets - 1, partitions), session_->workspace(),
                         session_->stream().get());
  }
  if (done) done = session_->stream().synchronize();
  if (!done) return failure(done);
  Result<std::vector<std::uint16_t>> result = session_->read_output();
  if (!result) return failure(result);
  const double error = sampled_error(*weights_, tokens_, *result);
  const double allowed = allowed_relative_error(weights_->spec.format.dtype);
  if (!(error <= allowed)) return std::unexpected(wrong_result("the kernel", error, allowed));
  return error;
}

Result<Contender> BenchCase::kernel_contender(const Kernel& kernel, int partitions) {
  return make_contender("kernel", session_->stream(), rotation_.launches, [&](int launch) {
    return kernel.launch(arguments(launch, partitions), session_->workspace(), session_->stream().get());
  });
}

Result<void> BenchCase::check_dense() const {
  const KernelSpec& spec = weights_->spec;
  Result<std::vector<std::uint16_t>> result = session_->read_output();
  if (!result) return failure(result);
  const std::vector<std::uint16_t>& pattern = session_->dense_pattern();
  std::vector<double> reference;
  std::vector<std::uint16_t> sample;
  const std::int64_t step = std::max<std::int64_t>(1, spec.format.n / kDenseRowsChecked);
  for (std::int64_t token = 0; token < tokens_.m; ++token) {
    for (std::int64_t row = 0; row < spec.format.n; row += step) {
      double sum = 0;
      for (std::int64_t k = 0; k < spec.format.k; ++k) {
        const auto weight = static_cast<std::size_t>(row * spec.format.k + k) % pattern.size();
        const auto activation = static_cast<std::size_t>(token * spec.format.k + k);
        sum += static_cast<double>(from_bits(pattern[weight], spec.format.dtype)) *
               static_cast<double>(from_bits(tokens_.activations[activation], spec.format.dtype));
      }
      reference.push_back(sum);
      sample.push_back((*result)[static_cast<std::size_t>(token * spec.format.n + row)]);
    }
  }
  const double error = relative_error(sample, reference, spec.format.dtype);
  const double allowed = allowed_relative_error(spec.format.dtype);
  if (!(error <= allowed)) return std::unexpected(wrong_result("cuBLAS", error, allowed));
  return {};
}

Result<void> BenchCase::prepare_cublas() {
  cublas_.reset();
  const Cublas* cublas = session_->cublas();
  if (cublas == nullptr) return {};
  const KernelSpec& spec = weights_->spec;
  Result<Rotation> rotation = session_->load_dense(spec.format.dtype, spec.format.n, spec.format.k);
  if (!rotation) return failure(rotation);
  const auto multiply = [&](int launch) {
    return cublas->multiply(session_->stream(), spec.format.dtype, tokens_.m, spec.format.n, spec.format.k,
                            session_->activations(), session_->dense(rotation->offset(launch)),
                            session_->output());
  };
  Result<void> done = session_->poison_output();
  if (done) done = multiply(0);
  if (done) done = session_->stream().synchronize();
  if (done) done = check_dense();
  if (!done) return done;
  Result<Contender> contender = make_contender("cuBLAS", session_->stream(), rotation->launches, multiply);
  if (!contender) return failure(contender);
  cublas_ = std::move(*contender);
  return {};
}

Result<void> BenchCase::prepare_floors() {
  floors_.clear();
  floor_variants_ = session_->floor().variants();
  for (const FloorVariant& variant : floor_variants_) {
    Result<Contender> contender =
        make_contender(describe(variant), session_->stream(), rotation_.launches, [&](int launch) {
          return session_->floor().launch(
              variant, reinterpret_cast<cuda::DevicePointer>(session_->weights(rotation_.offset(launch))),
              packed_bytes(), session_->stream());
        });
    if (!contender) return failure(contender);
    floors_.push_back(std::move(*contender));
  }
  return {};
}

Result<void> BenchCase::prepare_bounds() {
  Result<void> done = prepare_cublas();
  if (done) done = prepare_floors();
  return done;
}

Result<std::vector<double>> BenchCase::measure_all(std::vector<Contender> kernels, BenchBounds& bounds,
                                                   const TimingOptions& options) {
  const std::size_t count = kernels.size();
  std::vector<Contender> all = std::move(kernels);
  const bool has_cublas = cublas_.has_value();
  if (has_cublas) all.push_back(std::move(*cublas_));
  cublas_.reset();
  std::ranges::move(floors_, std::back_inserter(all));
  floors_.clear();
  Result<std::vector<double>> times = measure(session_->driver(), session_->stream(), all, options);
  if (!times) return times;

  std::size_t next = count;
  bounds = {};
  bounds.floor = HUGE_VAL;
  if (has_cublas) bounds.cublas = (*times)[next++];
  for (const FloorVariant& variant : floor_variants_) {
    const double time = (*times)[next++];
    if (!variant.dependent && time < bounds.floor) {
      bounds.floor = time;
      bounds.floor_variant = describe(variant);
    }
    if (variant.dependent && time < bounds.floor_dependent.value_or(HUGE_VAL)) {
      bounds.floor_dependent = time;
      bounds.floor_dependent_variant = describe(variant);
    }
  }
  times->resize(count);
  return times;
}

void compile_all(Service& service, std::span<const std::pair<KernelSpec, std::optional<Schedule>>> kernels) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < kernels.size(); i = next++) {
      [[maybe_unused]] const auto compiled = service.compile(kernels[i].first, kernels[i].second);
    }
  };
  std::vector<std::jthread> threads;
  const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
  for (std::size_t i = 0; i < std::min(cores, kernels.size()); ++i) threads.emplace_back(work);
}

}  // namespace lutsmith::cli
