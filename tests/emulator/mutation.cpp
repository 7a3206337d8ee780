#include "mutation.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace lutsmith::emulator_test {

using emulator::BlockOrder;
using emulator::EmulatedKernel;

void replace_once(std::string& text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << "the source has no '" << from << "'";
  ASSERT_EQ(text.find(from, at + 1), std::string::npos) << "the source has '" << from << "' more than once";
  text.replace(at, from.size(), to);
}

void cancel(Problem& problem) {
  const std::int64_t k = problem.k();
  for (std::int64_t row = 0; row < problem.n(); ++row) {
    std::copy_n(problem.matrix.codes.begin() + row * k, 128, problem.matrix.codes.begin() + row * k + 128);
  }
  for (std::int64_t i = 0; i < problem.m * k; ++i) {
    const std::int64_t column = i % k;
    const auto at = static_cast<std::size_t>(column < 128 || column >= 256 ? i : i - 128);
    const float factor = column < 128 ? 0x1p8F : column < 256 ? -1.0F : 0x1p-8F;
    problem.activations[static_cast<std::size_t>(i)] =
        to_bits(from_bits(problem.activations[at], problem.matrix.format.dtype) * factor,
                problem.matrix.format.dtype);
  }
  repack(problem);
}

std::string outcome(const KernelSpec& spec, const Source& source, const Problem& problem,
                    EmulationOptions options) {
  const EmulatedKernel kernel = must(EmulatedKernel::compile(host_compiler(), spec, source));
  std::vector<BlockOrder> orders = {BlockOrder::ascending};
  if (options.partitions != 1) orders.insert(orders.end(), {BlockOrder::descending, BlockOrder::interleaved});
  std::vector<std::vector<std::byte>> results;
  for (const BlockOrder order : orders) {
    options.order = order;
    auto result = emulate_bytes(kernel, source, problem, options);
    if (!result) {
      EXPECT_EQ(result.error().code, ErrorCode::kernel_fault);
      return result.error().message + "\n" + result.error().context;
    }
    results.push_back(*std::move(result));
  }
  const auto same = [&](const auto& result) { return result == results.front(); };
  if (!std::ranges::all_of(results, same)) return std::string(kOrder);
  const bool right = error_of(problem, results.front()) <= tolerance(spec);
  return std::string(right ? kNothing : kWrong);
}

}  // namespace lutsmith::emulator_test
