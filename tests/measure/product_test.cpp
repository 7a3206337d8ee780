#include "measure/product.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "epilogues.h"
#include "expect_error.h"
#include "host_kernel.h"
#include "must.h"
#include "simulated_device.h"
#include "stand_in_cublas.h"

namespace lutsmith::measure {
namespace {

using test::host_kernel;
using test::must;
using test::SimulatedDevice;
using test::StandInCublas;
using test::with_epilogues;

constexpr WeightFormat kFormat{.bits = 3, .group = 64, .n = 48, .k = 128};

const std::vector<std::byte> kCubin(64);

/// A product of four tokens on a simulated device.
class ProductTest : public testing::Test {
 protected:
  ProductTest() { must(product_.set_tokens({kFormat, 4})); }

  SimulatedDevice device_{{.fixed_microseconds = 4, .memory_bytes_per_microsecond = 1000}};
  RandomWeights weights_ = must(make_random_weights(kFormat));
  Product product_ = must(Product::create(device_, weights_));
};

TEST_F(ProductTest, RightKernelPassesWithTheErrorOfRounding) {
  const double error = must(product_.check(host_kernel(device_, {kFormat})));
  EXPECT_GT(error, 0);
  EXPECT_LT(error, allowed_relative_error(kFormat.dtype));
}

TEST_F(ProductTest, WrongKernelGetsAnErrorAndNoTime) {
  expect_error(product_.check(host_kernel(device_, {kFormat}, 1.01)), ErrorCode::driver_error,
               "the kernel gave a wrong result", "no time is given");
}

TEST_F(ProductTest, ValueThatNoOneWroteIsSeenThoughTheOutputWasRightBefore) {
  must(product_.check(host_kernel(device_, {kFormat})));
  expect_error(product_.check(host_kernel(device_, {kFormat}, 1, 1)), ErrorCode::driver_error,
               "relative error inf");
}

TEST_F(ProductTest, FailedLaunchIsTheError) {
  const Multiply refuses = [](const MatmulArguments&) -> Result<void> {
    return std::unexpected(Error{ErrorCode::unsupported, "not this one", ""});
  };
  expect_error(product_.check(refuses), ErrorCode::unsupported, "not this one");
  expect_error(product_.contender("kernel", refuses), ErrorCode::unsupported, "not this one");
}

TEST_F(ProductTest, OtherTokensMayFollow) {
  for (const std::int64_t m : {1, 17, 300, 2}) {
    must(product_.set_tokens({kFormat, m}));
    must(product_.check(host_kernel(device_, {kFormat})));
  }
}

TEST_F(ProductTest, EveryEpilogueIsComparedWithItsOwnReference) {
  for (const KernelSpec& spec : with_epilogues({kFormat, 4})) {
    SCOPED_TRACE(describe_epilogue(spec));
    must(product_.set_tokens(spec));
    must(product_.check(host_kernel(device_, spec)));
    for (const double factor : {0.99, 1.01}) {
      expect_error(product_.check(host_kernel(device_, spec, factor)), ErrorCode::driver_error,
                   "wrong result");
    }
    expect_error(product_.check(host_kernel(device_, spec, 1, 1)), ErrorCode::driver_error, "error inf");
    if (spec.gated == Gate::none) continue;
    KernelSpec other = spec;
    other.gated = spec.gated == Gate::silu ? Gate::gelu_tanh : Gate::silu;
    expect_error(product_.check(host_kernel(device_, other)), ErrorCode::driver_error, "wrong result");
  }
  must(product_.set_tokens({kFormat, 4}));
  must(product_.check([&](const MatmulArguments& arguments) {
    EXPECT_EQ(arguments.residual, nullptr);
    EXPECT_EQ(arguments.bias, nullptr);
    return host_kernel(device_, {kFormat})(arguments);
  }));
}

TEST_F(ProductTest, WhatIsAddedIsSeenWhereTheKernelForgetsIt) {
  for (const bool residual : {true, false}) {
    KernelSpec spec{kFormat, 4};
    (residual ? spec.residual : spec.bias) = true;
    must(product_.set_tokens(spec));
    const Multiply forgets = [&](MatmulArguments arguments) {
      arguments.residual = arguments.bias = nullptr;
      return host_kernel(device_, spec)(arguments);
    };
    expect_error(product_.check(forgets), ErrorCode::driver_error, "wrong result");
  }
}

TEST_F(ProductTest, CublasMultipliesTheWholeProductBesideGates) {
  const StandInCublas stand_in;
  StandInCublas::multiply_on(device_, kFormat.dtype);
  DenseProduct dense(device_, must(Cublas::open(device_, StandInCublas::places())));
  for (const KernelSpec& spec : with_epilogues({kFormat, 4})) {
    must(product_.set_tokens(spec));
    EXPECT_TRUE(dense.contender(product_).has_value()) << describe_epilogue(spec);
  }
}

TEST_F(ProductTest, LaunchesOfAContenderReadEachCopyInTurn) {
  std::vector<const void*> read;
  const Contender contender = must(product_.contender("kernel", [&](const MatmulArguments& arguments) {
    read.push_back(arguments.weights.data);
    return device_.enqueue(1);
  }));
  const int sets = product_.packed().rotation().sets;
  EXPECT_EQ(std::set(read.begin(), read.end()).size(), static_cast<std::size_t>(sets));
  EXPECT_EQ(read.size(), static_cast<std::size_t>(contender.launches));
}

TEST_F(ProductTest, ComparisonHasTheKernelsInTheirOrderAndTheFloor) {
  const StreamingFloor floor = must(StreamingFloor::create(device_, kCubin, /*dependent_launch=*/true));
  std::vector<Contender> kernels;
  for (const double microseconds : {20.0, 10.0}) {
    kernels.push_back(must(
        product_.contender("kernel", [&](const MatmulArguments&) { return device_.enqueue(microseconds); })));
  }
  const Comparison compared = must(compare(product_, std::move(kernels), nullptr, floor));
  ASSERT_EQ(compared.kernels.size(), 2U);
  EXPECT_NEAR(compared.kernels[0].median, 20, 1e-9);
  EXPECT_NEAR(compared.kernels[1].median, 10, 1e-9);
  EXPECT_FALSE(compared.bounds.cublas.has_value());
  const double reading = 4 + static_cast<double>(product_.packed_bytes()) / 1000;
  EXPECT_NEAR(compared.bounds.floor.plain.microseconds, reading, 1e-9);
  EXPECT_NEAR(compared.bounds.floor.dependent.value_or(FloorTime{}).microseconds, reading, 1e-9);
}

TEST_F(ProductTest, CublasTakesItsTurnOverColdWeightsAfterItsResultWasChecked) {
  const StandInCublas stand_in;
  StandInCublas::multiply_on(device_, kFormat.dtype);
  const StreamingFloor floor = must(StreamingFloor::create(device_, kCubin, /*dependent_launch=*/false));
  DenseProduct dense(device_, must(Cublas::open(device_, StandInCublas::places())));
  const Comparison compared = must(compare(product_, {}, &dense, floor, {.min_rounds = 1, .max_rounds = 1}));
  EXPECT_NEAR(compared.bounds.cublas.value_or(0), 4, 1e-9);
  EXPECT_FALSE(compared.bounds.floor.dependent.has_value());
}

TEST_F(ProductTest, CublasThatIsWrongIsAnError) {
  const StandInCublas stand_in;
  StandInCublas::multiply_on(device_, kFormat.dtype, 1.1F);
  DenseProduct dense(device_, must(Cublas::open(device_, StandInCublas::places())));
  expect_error(dense.contender(product_), ErrorCode::driver_error, "cuBLAS gave a wrong result");
}

TEST(RandomWeights, AreTheSameForTheSameFormat) {
  const RandomWeights first = must(make_random_weights(kFormat));
  const RandomWeights second = must(make_random_weights(kFormat));
  EXPECT_EQ(first.packed, second.packed);
  EXPECT_EQ(first.table, second.table);
}

TEST(RandomWeights, OfALargeMatrixTheFirstAndLastRowAndSomeBetweenAreChecked) {
  const RandomWeights weights = must(make_random_weights({.bits = 2, .group = 32, .n = 3000, .k = 32}));
  EXPECT_EQ(weights.rows.size(), 512U);
  EXPECT_EQ(weights.rows.front(), 0);
  EXPECT_EQ(weights.rows.back(), 2999);
  EXPECT_EQ(weights.sample.format.n, 512);
}

TEST(RandomWeights, OfALargeMatrixRowsAreSampledInPairsThatMakeAGatedSum) {
  const WeightFormat format{.bits = 2, .group = 32, .n = 3200, .k = 32};
  const RandomWeights weights = must(make_random_weights(format));
  ASSERT_EQ(weights.rows.size(), 512U);
  EXPECT_EQ(weights.rows.front(), 0);
  EXPECT_EQ(weights.rows.back(), 3199);
  for (std::size_t i = 0; i < weights.rows.size(); i += 16) {
    for (std::size_t j = i; j < i + 8; ++j) {
      EXPECT_LT(weights.rows[j] % 16, 8);
      EXPECT_EQ(weights.rows[j + 8], weights.rows[j] + 8);
    }
  }
  for (const KernelSpec& spec : with_epilogues({format, 4})) {
    SCOPED_TRACE(describe_epilogue(spec));
    SimulatedDevice device;
    Product product = must(Product::create(device, weights));
    must(product.set_tokens(spec));
    must(product.check(host_kernel(device, spec)));
    expect_error(product.check(host_kernel(device, spec, 1.01)), ErrorCode::driver_error, "wrong result");
  }
}

TEST(RandomWeights, SegmentsHaveTablesOfTheirOwnAndAreChecked) {
  for (const std::int64_t n : {3200, 140, 20}) {
    KernelSpec spec{{.bits = 2, .group = 32, .n = n, .k = 32}, 4};
    spec.segment_rows = 32;
    const RandomWeights weights = must(make_random_weights(spec.format, spec.segment_rows));
    EXPECT_EQ(weights.segments.size(), n == 20 ? 1U : 3U);
    must(validate_segments(weights.segments, spec.segment_rows, n));
    EXPECT_EQ(weights.table.size(), 4 * weights.segments.size());
    EXPECT_EQ(weights.sample.segments.size(), weights.segments.size());
    SimulatedDevice device;
    Product product = must(Product::create(device, weights));
    must(product.set_tokens(spec));
    must(product.check(host_kernel(device, spec)));
    const Multiply one_table = [&](const MatmulArguments& arguments) {
      MatmulArguments mistaken = arguments;
      mistaken.table = arguments.table.first(4);
      mistaken.segments = {};
      return host_kernel(device, spec)(mistaken);
    };
    if (n > 20) expect_error(product.check(one_table), ErrorCode::driver_error, "wrong result");
  }
}

TEST(RandomWeights, RowsWithTablesOfTheirOwnAreChecked) {
  for (const std::int64_t n : {3200, 24}) {
    const WeightFormat format{.bits = 3, .group = 32, .n = n, .k = 64, .table = TableKind::row};
    const RandomWeights weights = must(make_random_weights(format));
    EXPECT_TRUE(weights.table.empty());
    EXPECT_EQ(weights.sample.table.size(), 8 * weights.rows.size());
    SimulatedDevice device;
    Product product = must(Product::create(device, weights));
    must(product.set_tokens({format, 4}));
    must(product.check(host_kernel(device, {format, 4})));
    expect_error(product.check(host_kernel(device, {format, 4}, 1.01)), ErrorCode::driver_error,
                 "wrong result");
  }
}

TEST(RandomTokens, GatesOfRowsThatMakeNoPairsAreRefused) {
  const RandomWeights weights = must(make_random_weights({.bits = 2, .group = 32, .n = 24, .k = 32}));
  KernelSpec spec{weights.format, 1};
  spec.gated = Gate::silu;
  expect_error(make_random_tokens(weights, spec), ErrorCode::invalid_argument, "n: 24", "multiples of 16");
}

TEST(RandomTokens, OfManyTheFirstAndLastAndSomeBetweenAreChecked) {
  const RandomWeights weights = must(make_random_weights(kFormat));
  const RandomTokens few = must(make_random_tokens(weights, {kFormat, 5}));
  EXPECT_THAT(few.sampled, testing::ElementsAre(0, 1, 2, 3, 4));
  const RandomTokens many = must(make_random_tokens(weights, {kFormat, 3000}));
  EXPECT_EQ(many.activations.size(), 3000U * 128);
  EXPECT_EQ(many.sampled.size(), 32U);
  EXPECT_EQ(many.sampled.front(), 0);
  EXPECT_EQ(many.sampled.back(), 2999);
  EXPECT_EQ(many.reference.size(), 32U * 48);
}

TEST(RandomTokens, NoTwoAreEqual) {
  const RandomWeights weights = must(make_random_weights({.bits = 2, .group = 32, .n = 32, .k = 4096}));
  const RandomTokens tokens = must(make_random_tokens(weights, {weights.format, 1000}));
  std::set<std::vector<std::uint16_t>> rows;
  for (auto row = tokens.activations.begin(); row != tokens.activations.end(); row += 4096) {
    rows.emplace(row, row + 4096);
  }
  EXPECT_EQ(rows.size(), 1000U);
}

TEST(RandomWeights, FormatThatCannotBePackedIsAnError) {
  EXPECT_FALSE(make_random_weights({.bits = 4, .group = 48, .n = 32, .k = 128}).has_value());
  EXPECT_FALSE(make_random_weights({.bits = 4, .group = 128, .n = -1, .k = 128}).has_value());
}

}  // namespace
}  // namespace lutsmith::measure
