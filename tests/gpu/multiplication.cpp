#include "multiplication.h"

#include <algorithm>
#include <span>
#include <utility>

#include "machine.h"

namespace lutsmith::gpu_test {
namespace {

constexpr std::int64_t kGuard = 512;  // elements
constexpr std::uint16_t kPoison = 0xffff;

std::vector<std::uint16_t> with_padding(const std::vector<std::uint16_t>& rows, std::int64_t columns,
                                        std::int64_t padding) {
  std::vector<std::uint16_t> result;
  for (auto row = rows.begin(); row != rows.end(); row += columns) {
    result.insert(result.end(), row, row + columns);
    result.insert(result.end(), static_cast<std::size_t>(padding), kPoison);
  }
  return result;
}

}  // namespace

Multiplication::Multiplication(const Problem& problem, const LaunchOptions& options)
    : n_(problem.channels()),
      m_(problem.m),
      stride_(problem.channels() + options.output_padding),
      table_(problem.launched_table().begin(), problem.launched_table().end()) {
  const cuda::Driver& driver = *machine()->driver;
  const std::vector<std::uint16_t> activations =
      with_padding(problem.activations, problem.k(), options.activation_padding);
  weights_ = must(cuda::Buffer::copy_of(driver, problem.packed));
  activations_ = must(cuda::Buffer::copy_of(driver, std::as_bytes(std::span(activations))));
  output_ = must(cuda::Buffer::allocate(driver, static_cast<std::size_t>((2 * kGuard + m_ * stride_) * 2)));
  arguments_ = {.weights = {problem.matrix.format, weights_.data(), weights_.bytes()},
                .activations = activations_.data(),
                .output = static_cast<std::uint16_t*>(output_.data()) + kGuard,
                .table = table_,
                .m = m_,
                .activation_stride = problem.k() + options.activation_padding,
                .output_stride = stride_,
                .partitions = options.partitions};
  if (!problem.bias.empty()) {
    bias_ = must(cuda::Buffer::copy_of(driver, std::as_bytes(std::span(problem.bias))));
    arguments_.bias = bias_.data();
  }
  if (!problem.residual.empty()) {
    std::vector<std::uint16_t> residual = with_padding(problem.residual, n_, options.output_padding);
    arguments_.residual_stride = stride_;
    if (options.in_place) {
      in_place_ = std::move(residual);
      arguments_.residual = arguments_.output;
    } else {
      residual_ = must(cuda::Buffer::copy_of(driver, std::as_bytes(std::span(residual))));
      arguments_.residual = residual_.data();
    }
  }
  poison();
}

void Multiplication::poison() {
  const cuda::Driver& driver = *machine()->driver;
  must(driver.set(output_.address(), 0xff, output_.bytes()));
  if (!in_place_.empty()) {
    must(driver.copy_to_device(output_.address() + kGuard * 2, std::as_bytes(std::span(in_place_))));
  }
  must(driver.synchronize());
}

std::vector<std::uint16_t> Multiplication::result() const {
  const cuda::Driver& driver = *machine()->driver;
  must(driver.synchronize());
  std::vector<std::uint16_t> all(output_.bytes() / 2);
  must(driver.copy_to_host(std::as_writable_bytes(std::span(all)), output_.address()));
  std::vector<std::uint16_t> compact;
  compact.reserve(static_cast<std::size_t>(m_ * n_));
  const auto is_poison = [](std::uint16_t value) { return value == kPoison; };
  bool untouched = std::all_of(all.begin(), all.begin() + kGuard, is_poison) &&
                   std::all_of(all.end() - kGuard, all.end(), is_poison);
  for (std::int64_t row = 0; row < m_; ++row) {
    const auto begin = all.begin() + kGuard + row * stride_;
    compact.insert(compact.end(), begin, begin + n_);
    untouched = untouched && std::all_of(begin + n_, begin + stride_, is_poison);
  }
  EXPECT_TRUE(untouched) << "the kernel wrote beside its output";
  return compact;
}

std::vector<std::uint16_t> Multiplication::run(const Kernel& kernel) {
  poison();
  Workspace workspace = must(machine()->service.create_workspace());
  const cuda::Stream stream = must(cuda::Stream::create(*machine()->driver));
  must(kernel.launch(arguments_, workspace, stream.get()));
  must(stream.synchronize());
  return result();
}

void expect_right(const KernelRequest& request, const Problem& problem, const LaunchOptions& options) {
  SCOPED_TRACE(describe(request));
  Multiplication multiplication(problem, options);
  const std::vector<std::uint16_t> result = multiplication.run(get_kernel(request));
  EXPECT_LE(error_of(problem, result), tolerance(request.spec.format.dtype))
      << "m " << problem.m << ", partitions " << options.partitions;
}

void expect_right(const KernelRequest& request, std::int64_t m, const LaunchOptions& options,
                  const ProblemOptions& problem) {
  expect_right(request, make_problem(request.spec, m, problem), options);
}

}  // namespace lutsmith::gpu_test
