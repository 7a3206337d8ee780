#include "measure/product.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "core/output_values.h"
#include "core/poison.h"
#include "core/result.h"
#include "lutsmith/float16.h"

namespace lutsmith::measure {
namespace {

constexpr std::int64_t kDenseRowsChecked = 64;

// Odd, so that rows of a matrix do not repeat.
constexpr std::size_t kPatternValues = (std::size_t{1} << 20) + 7;
constexpr float kDenseScale = 0x1p-5F;

Result<double> accept(std::string_view what, double error, double allowed) {
  if (error <= allowed) return error;
  return std::unexpected(
      Error{ErrorCode::driver_error,
            fmt::format("{} gave a wrong result: relative error {:.3g} against float64, at most {:.1e} is "
                        "rounding; no time is given",
                        what, error, allowed),
            ""});
}

/// Into memory that is there already, where it is large enough; nothing of no values.
Result<void> upload(Device& device, std::unique_ptr<Memory>& memory, std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  Result<void> done = reserve(device, memory, bytes.size());
  if (done) done = device.write(memory->address(), bytes);
  return done;
}

}  // namespace

Result<Product> Product::create(Device& device, const RandomWeights& weights) {
  Product product(device, weights);
  if (Result<void> loaded = product.packed_.load(weights.packed); !loaded) return failure(loaded);
  return product;
}

Result<void> Product::set_tokens(const KernelSpec& spec) {
  Result<RandomTokens> tokens = make_random_tokens(*weights_, spec);
  if (!tokens) return failure(tokens);
  tokens_ = std::move(*tokens);
  spec_ = spec;
  Result<void> loaded = reserve(*device_, output_, output_bytes(format().n, spec.output_type()));
  if (loaded) loaded = upload(*device_, activations_, std::as_bytes(std::span(tokens_.activations)));
  if (loaded) {
    loaded = upload(*device_, residual_, core::bytes_of(tokens_.added.residual, spec.output_type()));
  }
  if (loaded) loaded = upload(*device_, bias_, std::as_bytes(std::span(tokens_.added.bias)));
  return loaded;
}

std::size_t Product::output_bytes(std::int64_t channels, OutputType type) const {
  return static_cast<std::size_t>(tokens_.m * channels) * element_bytes(type);
}

MatmulArguments Product::arguments(int launch) const {
  return {.weights = {.format = format(), .data = packed_.copy_for(launch), .bytes = packed_bytes()},
          .activations = activations(),
          .output = output(),
          .table = weights_->table,
          .m = tokens_.m,
          .residual = tokens_.added.residual.empty() ? nullptr : residual_->data(),
          .bias = tokens_.added.bias.empty() ? nullptr : bias_->data(),
          .segments = weights_->segments};
}

Result<void> Product::poison_output() {
  return device_->fill(output_->address(), kPoisonByte, output_bytes(format().n, spec_.output_type()));
}

Result<std::vector<float>> Product::read_output(std::int64_t channels, OutputType type) {
  std::vector<std::byte> result(output_bytes(channels, type));
  Result<void> read = device_->read(result, output_->address());
  if (!read) return failure(read);
  return core::values_of(result, type);
}

Result<double> Product::check(const Multiply& kernel) {
  Result<void> done = poison_output();
  // The last copy of the weights, so that the copies are checked as well.
  if (done) done = kernel(arguments(packed_.rotation().sets - 1));
  if (done) done = device_->synchronize();
  if (!done) return failure(done);
  Result<std::vector<float>> result = read_output(tokens_.output_channels, spec_.output_type());
  if (!result) return failure(result);
  return accept("the kernel", sampled_error(tokens_, *result), allowed_relative_error(spec_));
}

Result<Contender> Product::contender(std::string name, const Multiply& kernel) {
  return make_contender(*device_, std::move(name), packed_.rotation().launches,
                        [&](int launch) { return kernel(arguments(launch)); });
}

void DenseProduct::make_pattern(DataType dtype) {
  if (dtype_ == dtype) return;
  dtype_ = dtype;
  pattern_ = random_values(kPatternValues, dtype, 1);
  for (std::uint16_t& value : pattern_) value = to_bits(from_bits(value, dtype) * kDenseScale, dtype);
}

Result<Contender> DenseProduct::contender(Product& product) {
  const WeightFormat& format = product.format();
  make_pattern(format.dtype);
  const std::size_t bytes = static_cast<std::size_t>(format.n * format.k) * sizeof(std::uint16_t);
  Result<void> done = weights_.load_repeated(std::as_bytes(std::span(pattern_)), bytes);
  const auto multiply = [&](int launch) {
    return cublas_.multiply(format.dtype, product.tokens().m, format.n, format.k, product.activations(),
                            weights_.copy_for(launch), product.output());
  };
  if (done) done = product.poison_output();
  if (done) done = multiply(0);
  if (done) done = product.device().synchronize();
  if (done) done = check(product);
  if (!done) return failure(done);
  return make_contender(product.device(), "cuBLAS", weights_.rotation().launches, multiply);
}

Result<void> DenseProduct::check(Product& product) const {
  const std::int64_t n = product.format().n;
  const DataType dtype = product.format().dtype;
  Result<std::vector<float>> result = product.read_output(n, output_type_of(dtype));
  if (!result) return failure(result);
  const std::int64_t k = product.format().k;
  std::vector<double> reference;
  std::vector<float> sample;
  const std::int64_t step = std::max<std::int64_t>(1, n / kDenseRowsChecked);
  for (const std::int64_t token : product.tokens().sampled) {
    for (std::int64_t row = 0; row < n; row += step) {
      double sum = 0;
      for (std::int64_t column = 0; column < k; ++column) {
        const auto weight = static_cast<std::size_t>(row * k + column) % pattern_.size();
        const auto activation = static_cast<std::size_t>(token * k + column);
        sum += static_cast<double>(from_bits(pattern_[weight], dtype)) *
               static_cast<double>(from_bits(product.tokens().activations[activation], dtype));
      }
      reference.push_back(sum);
      sample.push_back((*result)[static_cast<std::size_t>(token * n + row)]);
    }
  }
  Result<double> error = accept("cuBLAS", relative_error(sample, reference), allowed_relative_error(dtype));
  if (!error) return failure(error);
  return {};
}

Result<Comparison> compare(Product& product, std::vector<Contender> kernels, DenseProduct* dense,
                           const StreamingFloor& floor, const TimingOptions& options) {
  const std::size_t count = kernels.size();
  std::vector<Contender> all = std::move(kernels);
  if (dense != nullptr) {
    Result<Contender> cublas = dense->contender(product);
    if (!cublas) return failure(cublas);
    all.push_back(std::move(*cublas));
  }
  Result<std::vector<Contender>> floors =
      floor_contenders(product.device(), floor, product.packed(), product.packed_bytes());
  if (!floors) return failure(floors);
  std::ranges::move(*floors, std::back_inserter(all));

  Result<std::vector<Statistics>> times = measure(product.device(), all, options);
  if (!times) return failure(times);
  std::vector<double> medians;
  for (const Statistics& statistics : *times) medians.push_back(statistics.median);
  Comparison result;
  result.kernels.assign(times->begin(), times->begin() + static_cast<std::ptrdiff_t>(count));
  if (dense != nullptr) result.bounds.cublas = medians[count];
  result.bounds.floor =
      fastest(floor.variants(), std::span(medians).subspan(count + (dense != nullptr ? 1 : 0)));
  return result;
}

}  // namespace lutsmith::measure
