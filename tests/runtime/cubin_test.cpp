#include "runtime/cubin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "synthetic_cubin.h"

namespace lutsmith {
namespace {

Target target_named(std::string_view name) { return Target::parse(name).value(); }

void expect_damaged(std::span<const std::byte> cubin, std::string_view reason) {
  const Result<void> checked = check_cubin(cubin, target_named("sm_90a"), "kern");
  ASSERT_FALSE(checked.has_value()) << reason;
  EXPECT_EQ(checked.error().code, ErrorCode::corrupt_data);
  EXPECT_THAT(checked.error().message, testing::HasSubstr(std::string(reason)));
}

TEST(Cubin, CompleteFileWithTheKernelPasses) {
  for (const TargetTraits& traits : Target::all()) {
    const Target target = target_named(traits.name);
    EXPECT_TRUE(check_cubin(synthetic_cubin(target, "kern"), target, "kern").has_value()) << traits.name;
  }
}

TEST(Cubin, EveryTruncationIsRefused) {
  const std::vector<std::byte> cubin = synthetic_cubin(target_named("sm_90a"), "kern");
  for (std::size_t length = 0; length < cubin.size(); ++length) {
    EXPECT_FALSE(check_cubin(std::span(cubin).first(length), target_named("sm_90a"), "kern").has_value())
        << "cut to " << length;
  }
}

TEST(Cubin, AnyChangedByteIsReadWithinBounds) {
  const std::vector<std::byte> cubin = synthetic_cubin(target_named("sm_90a"), "kern");
  int refused = 0;
  for (std::size_t at = 0; at < cubin.size(); ++at) {
    for (const std::byte value : {std::byte{0x01}, std::byte{0x7f}, std::byte{0xff}}) {
      std::vector<std::byte> damaged = cubin;
      damaged[at] ^= value;
      if (!check_cubin(damaged, target_named("sm_90a"), "kern")) ++refused;
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(Cubin, OtherArchitectureIsRefused) {
  expect_damaged(synthetic_cubin(target_named("sm_80"), "kern"), "it is for sm_80, not for sm_90a");
}

TEST(Cubin, OtherKernelIsRefusedAlsoWhereItsNameBeginsTheSame) {
  expect_damaged(synthetic_cubin(target_named("sm_90a"), "kernel"), "no kernel kern");
  expect_damaged(synthetic_cubin(target_named("sm_90a"), "ker"), "no kernel kern");
}

TEST(Cubin, HostCodeAndTextAreRefused) {
  std::vector<std::byte> cubin = synthetic_cubin(target_named("sm_90a"), "kern");
  cubin[18] = std::byte{62};  // e_machine: x86-64
  expect_damaged(cubin, "its machine is 62");
  expect_damaged(std::vector<std::byte>(4096, std::byte{'x'}), "no 64-bit ELF file");
}

}  // namespace
}  // namespace lutsmith
