#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "host_kernel.h"
#include "measure/product.h"
#include "must.h"
#include "simulated_device.h"
#include "stand_in_cublas.h"

namespace lutsmith::measure {
namespace {

using test::must;
using test::SimulatedDevice;
using test::StandInCublas;

constexpr WeightFormat kFormat{.bits = 2, .group = 32, .n = 32, .k = 32};
// With all that can be uploaded.
const KernelSpec kSpec{.format = kFormat, .m = 1, .residual = true, .bias = true};

const RandomWeights& weights() {
  static const RandomWeights made = must(make_random_weights(kFormat));
  return made;
}

/// All that is done to a product from its upload to its times, with a cache so small that twenty launches do.
Result<void> measure_a_product(SimulatedDevice& device) {
  const std::vector<std::byte> cubin(64);
  Result<StreamingFloor> floor = StreamingFloor::create(device, cubin, /*dependent_launch=*/true);
  if (!floor) return std::unexpected(floor.error());
  Result<Product> product = Product::create(device, weights());
  if (!product) return std::unexpected(product.error());
  if (Result<void> done = product->set_tokens(kSpec); !done) return done;
  const Multiply kernel = test::host_kernel(device, kSpec);
  if (Result<double> error = product->check(kernel); !error) return std::unexpected(error.error());
  std::vector<Contender> kernels(1);
  Result<Contender> contender = product->contender("kernel", kernel);
  if (!contender) return std::unexpected(contender.error());
  kernels.front() = std::move(*contender);
  const Result<Comparison> compared =
      compare(*product, std::move(kernels), nullptr, *floor, {.min_rounds = 1, .max_rounds = 1});
  if (!compared) return std::unexpected(compared.error());
  return {};
}

Result<void> measure_cublas(SimulatedDevice& device, Product& product) {
  Result<Cublas> cublas = Cublas::open(device, StandInCublas::places());
  if (!cublas) return std::unexpected(cublas.error());
  DenseProduct dense(device, std::move(*cublas));
  const Result<Contender> contender = dense.contender(product);
  if (!contender) return std::unexpected(contender.error());
  return {};
}

/// Calls `work` with every one of the device's calls failing once. How many there were.
template <class Work>
int fail_every_call(SimulatedDevice& device, Work&& work) {
  const int living = device.living();
  for (int number = 0;; ++number) {
    const int first = device.calls();
    device.fail_call(first + number);
    const Result<void> done = work();
    EXPECT_EQ(device.living(), living) << "after the failure of call " << number;
    if (done) {
      EXPECT_LE(device.calls() - first, number) << "the failure of call " << number << " was overlooked";
      return number;
    }
    EXPECT_THAT(done.error().message, testing::HasSubstr("failed as asked"));
    if (device.living() != living) return number;
  }
}

TEST(DriverErrors, EveryFailedCallIsAnErrorAndLeavesNothingAllocated) {
  SimulatedDevice device;
  device.mutable_facts().l2_bytes = 1024;
  const int calls = fail_every_call(device, [&] { return measure_a_product(device); });
  EXPECT_GT(calls, 100);
}

TEST(DriverErrors, EveryFailedCallWhileCublasIsPreparedIsOneToo) {
  const StandInCublas stand_in;
  SimulatedDevice device;
  device.mutable_facts().l2_bytes = 1024;
  StandInCublas::state().multiply = [&](const FakeProduct&) {};
  Product product = must(Product::create(device, weights()));
  must(product.set_tokens(kSpec));
  StandInCublas::multiply_on(device, kFormat.dtype);
  // The stand-in loses the errors of its own launches, so those are not counted on.
  for (int number = 0; number < 6; ++number) {
    const int living = device.living();
    device.fail_call(device.calls() + number);
    EXPECT_FALSE(measure_cublas(device, product).has_value()) << number;
    EXPECT_EQ(device.living(), living) << number;
  }
  EXPECT_EQ(StandInCublas::state().living, 0);
}

}  // namespace
}  // namespace lutsmith::measure
