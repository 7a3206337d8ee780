#include "emulation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <span>
#include <string>

#include "core/output_values.h"
#include "core/poison.h"
#include "must.h"
#include "templates/embedded_templates.h"

namespace lutsmith::emulator_test {
namespace {

using emulator::BlockOrder;
using emulator::EmulatedKernel;

/// Both types read it as not-a-number.
constexpr std::uint16_t kPoison = 0xffff;
constexpr std::int64_t kPadding = 8;
constexpr int kMultiprocessors = 4;

}  // namespace

bool has_turn(std::size_t number) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::size_t kEvery = 10;
#else
  constexpr std::size_t kEvery = 1;
#endif
  return number % kEvery == 0;
}

std::vector<int> having_turn(const std::vector<int>& partitions) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::size_t kEvery = 3;
#else
  constexpr std::size_t kEvery = 1;
#endif
  std::vector<int> chosen;
  for (std::size_t i = 0; i < partitions.size(); i += kEvery) chosen.push_back(partitions[i]);
  return chosen;
}

const emulator::HostCompiler& host_compiler() {
  static const emulator::HostCompiler compiler = must(emulator::HostCompiler::find());
  return compiler;
}

std::string body_of_template(std::string_view name) {
  const auto files = embedded_templates();
  const auto file = std::ranges::find(files, name, &EmbeddedFile::name);
  EXPECT_NE(file, files.end()) << name;
  std::string body;
  for (std::size_t begin = 0; begin < file->text.size();) {
    const std::size_t end = std::min(file->text.find('\n', begin), file->text.size());
    const std::string_view line = file->text.substr(begin, end - begin);
    if (!line.starts_with("#include") && !line.starts_with("#pragma once")) body.append(line).append("\n");
    begin = end + 1;
  }
  return body;
}

Result<std::vector<std::byte>> emulate_bytes(const EmulatedKernel& kernel, const Source& source,
                                             const Problem& problem, const EmulationOptions& options) {
  const std::int64_t m = problem.m;
  const std::int64_t n = problem.channels();
  const std::int64_t k = problem.k();
  const std::int64_t stride = k + kPadding;
  const std::int64_t output_stride = n + options.output_padding;
  // The last row has no padding: behind it begins what the address sanitizer guards.
  std::vector<std::uint16_t> activations(static_cast<std::size_t>((m - 1) * stride + k), kPoison);
  for (std::int64_t row = 0; row < m; ++row) {
    std::copy_n(problem.activations.begin() + row * k, k, activations.begin() + row * stride);
  }
  const auto element = static_cast<std::int64_t>(element_bytes(problem.output));
  const auto poisoned = [&](std::int64_t elements) {
    return std::vector<std::byte>(static_cast<std::size_t>(elements * element), std::byte{kPoisonByte});
  };
  const auto behind = [&](std::vector<std::byte>& memory, std::int64_t offset) {
    return std::span(memory).subspan(static_cast<std::size_t>(offset * element));
  };
  std::vector<std::byte> memory = poisoned(options.output_offset + (m - 1) * output_stride + n);
  const std::span<std::byte> output = behind(memory, options.output_offset);
  const std::vector<std::byte> added = core::bytes_of(problem.residual, problem.output);
  const auto put_residual = [&](std::span<std::byte> rows, std::int64_t row_stride) {
    for (std::int64_t row = 0; row < m; ++row) {
      std::copy_n(added.begin() + row * n * element, n * element, rows.begin() + row * row_stride * element);
    }
  };
  std::int64_t residual_stride = 0;
  std::vector<std::byte> residual_memory;
  std::span<const std::byte> residual;
  if (!added.empty() && options.in_place) {
    residual_stride = output_stride;
    put_residual(output, residual_stride);
    residual = output;
  } else if (!added.empty()) {
    residual_stride = n + options.residual_padding;
    residual_memory = poisoned(options.residual_offset + (m - 1) * residual_stride + n);
    put_residual(behind(residual_memory, options.residual_offset), residual_stride);
    residual = behind(residual_memory, options.residual_offset);
  }
  const auto ran =
      kernel.launch({.weights = problem.packed,
                     .activations = activations,
                     .output = output,
                     .table = problem.launched_table(),
                     .m = m,
                     .activation_stride = stride,
                     .output_stride = output_stride,
                     .partition = must(partition(source.launch, m, kMultiprocessors, options.partitions)),
                     .order = options.order,
                     .residual = residual,
                     .residual_stride = residual_stride,
                     .bias = problem.bias,
                     .segments = problem.matrix.segments});
  if (!ran) return std::unexpected(ran.error());
  std::vector<std::byte> result;
  for (std::int64_t row = 0; row < m; ++row) {
    const auto begin = output.begin() + row * output_stride * element;
    const auto end = begin + n * element;
    result.insert(result.end(), begin, end);
    if (row + 1 < m) {
      const std::int64_t padding = options.output_padding * element;
      EXPECT_EQ(std::count(end, end + padding, std::byte{kPoisonByte}), padding) << "padding of row " << row;
    }
  }
  return result;
}

Result<std::vector<std::uint16_t>> emulate(const EmulatedKernel& kernel, const Source& source,
                                           const Problem& problem, const EmulationOptions& options) {
  const auto bytes = emulate_bytes(kernel, source, problem, options);
  if (!bytes) return std::unexpected(bytes.error());
  std::vector<std::uint16_t> result(bytes->size() / sizeof(std::uint16_t));
  std::memcpy(result.data(), bytes->data(), bytes->size());
  return result;
}

void expect_right(const KernelSpec& spec, const Schedule& schedule, std::int64_t m) {
  const LaunchRecipe launch = must(render(spec, schedule)).launch;
  const std::int64_t token_tiles = (m + launch.tile_tokens - 1) / launch.tile_tokens;
  std::vector<int> partitions(
      static_cast<std::size_t>(launch.row_tiles * launch.steps_per_tile * token_tiles + 1));
  std::iota(partitions.begin(), partitions.end(), 1);
  expect_right_at(spec, schedule, m, partitions);
}

void expect_right_at(const KernelSpec& spec, const Schedule& schedule, std::int64_t m,
                     const std::vector<int>& partitions) {
  expect_right_at(spec, schedule, std::vector{m}, partitions);
}

void expect_right_at(const KernelSpec& spec, const Schedule& schedule,
                     const std::vector<std::int64_t>& tokens, const std::vector<int>& partitions) {
  SCOPED_TRACE(describe(spec) + ", " + describe(schedule));
  const Source source = must(render(spec, schedule));
  const EmulatedKernel kernel = must(EmulatedKernel::compile(host_compiler(), spec, source));
  for (const std::int64_t m : tokens) {
    const Problem problem = make_problem(spec, m);
    for (const int count : partitions) {
      SCOPED_TRACE(std::to_string(m) + " tokens, " + std::to_string(count) + " partitions");
      const auto ascending = emulate(kernel, source, problem, {count, BlockOrder::ascending});
      ASSERT_TRUE(ascending) << ascending.error().message << "\n" << ascending.error().context;
      EXPECT_LE(error_of(problem, *ascending), tolerance(spec.format.dtype));
      const BlockOrder other = count % 2 == 0 ? BlockOrder::descending : BlockOrder::interleaved;
      const auto again = emulate(kernel, source, problem, {count, other});
      ASSERT_TRUE(again) << again.error().message << "\n" << again.error().context;
      ASSERT_EQ(*again, *ascending) << "the order of the blocks changes the result";
    }
  }
}

}  // namespace lutsmith::emulator_test
