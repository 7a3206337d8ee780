#include "multiplication.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "core/output_values.h"
#include "core/poison.h"
#include "machine.h"

namespace lutsmith::gpu_test {
namespace {

constexpr std::int64_t kGuard = 512;  // elements
constexpr std::byte kPoison{kPoisonByte};

/// Rows of so many bytes, and so many behind each.
std::vector<std::byte> with_padding(std::span<const std::byte> rows, std::int64_t row_bytes,
                                    std::int64_t padding) {
  std::vector<std::byte> result;
  for (auto row = rows.begin(); row != rows.end(); row += row_bytes) {
    result.insert(result.end(), row, row + row_bytes);
    result.insert(result.end(), static_cast<std::size_t>(padding), kPoison);
  }
  return result;
}

}  // namespace

Multiplication::Multiplication(const Problem& problem, const LaunchOptions& options)
    : n_(problem.channels()),
      m_(problem.m),
      stride_(problem.channels() + options.output_padding),
      element_(static_cast<std::int64_t>(element_bytes(problem.output))),
      table_(problem.launched_table().begin(), problem.launched_table().end()),
      segments_(problem.matrix.segments) {
  const cuda::Driver& driver = *machine()->driver;
  const std::vector<std::byte> activations = with_padding(std::as_bytes(std::span(problem.activations)),
                                                          problem.k() * 2, options.activation_padding * 2);
  weights_ = must(cuda::Buffer::copy_of(driver, problem.packed));
  activations_ = must(cuda::Buffer::copy_of(driver, activations));
  output_ =
      must(cuda::Buffer::allocate(driver, static_cast<std::size_t>((2 * kGuard + m_ * stride_) * element_)));
  arguments_ = {.weights = {problem.matrix.format, weights_.data(), weights_.bytes()},
                .activations = activations_.data(),
                .output = static_cast<std::byte*>(output_.data()) + kGuard * element_,
                .table = table_,
                .m = m_,
                .activation_stride = problem.k() + options.activation_padding,
                .output_stride = stride_,
                .partitions = options.partitions,
                .segments = segments_};
  if (!problem.bias.empty()) {
    bias_ = must(cuda::Buffer::copy_of(driver, std::as_bytes(std::span(problem.bias))));
    arguments_.bias = bias_.data();
  }
  if (!problem.residual.empty()) {
    std::vector<std::byte> residual = with_padding(core::bytes_of(problem.residual, problem.output),
                                                   n_ * element_, options.output_padding * element_);
    arguments_.residual_stride = stride_;
    if (options.in_place) {
      in_place_ = std::move(residual);
      arguments_.residual = arguments_.output;
    } else {
      residual_ = must(cuda::Buffer::copy_of(driver, residual));
      arguments_.residual = residual_.data();
    }
  }
  poison();
}

void Multiplication::poison() {
  const cuda::Driver& driver = *machine()->driver;
  must(driver.set(output_.address(), 0xff, output_.bytes()));
  if (!in_place_.empty()) {
    must(driver.copy_to_device(output_.address() + static_cast<cuda::DevicePointer>(kGuard * element_),
                               in_place_));
  }
  must(driver.synchronize());
}

std::vector<std::byte> Multiplication::result_bytes() const {
  const cuda::Driver& driver = *machine()->driver;
  must(driver.synchronize());
  std::vector<std::byte> all(output_.bytes());
  must(driver.copy_to_host(all, output_.address()));
  std::vector<std::byte> compact;
  compact.reserve(static_cast<std::size_t>(m_ * n_ * element_));
  const auto is_poison = [](std::byte value) { return value == kPoison; };
  const std::int64_t guard = kGuard * element_;
  bool untouched = std::all_of(all.begin(), all.begin() + guard, is_poison) &&
                   std::all_of(all.end() - guard, all.end(), is_poison);
  for (std::int64_t row = 0; row < m_; ++row) {
    const auto begin = all.begin() + guard + row * stride_ * element_;
    const auto end = begin + n_ * element_;
    compact.insert(compact.end(), begin, end);
    untouched = untouched && std::all_of(end, begin + stride_ * element_, is_poison);
  }
  EXPECT_TRUE(untouched) << "the kernel wrote beside its output";
  return compact;
}

std::vector<std::uint16_t> Multiplication::result() const {
  const std::vector<std::byte> bytes = result_bytes();
  std::vector<std::uint16_t> values(bytes.size() / sizeof(std::uint16_t));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::vector<std::uint16_t> Multiplication::run(const Kernel& kernel) {
  poison();
  Workspace workspace = must(machine()->service.create_workspace());
  const cuda::Stream stream = must(cuda::Stream::create(*machine()->driver));
  must(kernel.launch(arguments_, workspace, stream.get()));
  must(stream.synchronize());
  return result();
}

std::vector<Schedule> schedules_of_every_stream() {
  std::vector<Schedule> schedules;
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    for (const int tokens : {1, 8, 16}) {
      schedules.emplace_back(FewTokensSchedule{.tile_rows = tokens == 8 ? 16 : 32,
                                               .tile_tokens = tokens,
                                               .warps = 3,
                                               .weights = path,
                                               .stages = 2});
    }
  }
  for (const int k_groups : {1, 2}) {
    schedules.emplace_back(MultistageSchedule{.tile_rows = 128,
                                              .tile_tokens = 32,
                                              .warp_rows = k_groups == 1 ? 16 : 32,
                                              .k_groups = k_groups,
                                              .activation_stages = 2});
    for (const int blocks : {1, 2}) {
      schedules.emplace_back(ManyTokensSchedule{.tile_rows = 128,
                                                .tile_tokens = 32,
                                                .k_groups = k_groups,
                                                .cluster_blocks = blocks,
                                                .commit_steps = k_groups == 1 ? 1 : 4,
                                                .activation_stages = 4,
                                                .weight_stages = 4});
    }
  }
  return schedules;
}

void expect_right(const KernelRequest& request, const Problem& problem, const LaunchOptions& options) {
  SCOPED_TRACE(describe(request));
  Multiplication multiplication(problem, options);
  multiplication.run(get_kernel(request));
  EXPECT_LE(error_of(problem, multiplication.result_bytes()), tolerance(request.spec))
      << "m " << problem.m << ", partitions " << options.partitions;
}

void expect_right(const KernelRequest& request, std::int64_t m, const LaunchOptions& options,
                  const ProblemOptions& problem) {
  expect_right(request, make_problem(request.spec, m, problem), options);
}

}  // namespace lutsmith::gpu_test
