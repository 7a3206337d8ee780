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

/// As many symbol tables as sections, each of which is the whole file of 64 MiB: packed, a few kilobytes.
std::vector<std::byte> overlapping_tables() {
  constexpr std::size_t kTables = 4000;
  std::vector<std::byte> file = synthetic_cubin(target_named("sm_90a"), "other");
  Elf64_Ehdr header;
  std::memcpy(&header, file.data(), sizeof(header));
  header.e_shoff = file.size();
  header.e_shnum = kTables;
  std::memcpy(file.data(), &header, sizeof(header));
  file.resize(std::size_t{64} << 20);
  for (std::size_t i = 0; i < kTables; ++i) {
    Elf64_Shdr section{};
    section.sh_type = i == 0 ? SHT_STRTAB : SHT_SYMTAB;
    section.sh_size = file.size();
    std::memcpy(file.data() + header.e_shoff + i * sizeof(section), &section, sizeof(section));
  }
  return file;
}

// One such entry of a server took a request nine seconds: 4000 times 64 MiB of symbols.
TEST(Cubin, SymbolTablesThatOverlapAreNotAllRead) {
  expect_damaged(overlapping_tables(), "two symbol tables");
}

TEST(Cubin, NameTooLongToCompareIsRefused) {
  const std::string name(2000, 'k');
  EXPECT_FALSE(check_cubin(synthetic_cubin(target_named("sm_90a"), name), target_named("sm_90a"), name));
}

TEST(Cubin, HostCodeAndTextAreRefused) {
  std::vector<std::byte> cubin = synthetic_cubin(target_named("sm_90a"), "kern");
  cubin[18] = std::byte{62};  // e_machine: x86-64
  expect_damaged(cubin, "its machine is 62");
  expect_damaged(std::vector<std::byte>(4096, std::byte{'x'}), "no 64-bit ELF file");
}

}  // namespace
}  // namespace lutsmith
