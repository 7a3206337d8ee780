#include "cache/entry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace lutsmith::cache {
namespace {

Entry sample() { return {.manifest = R"({"a":1})", .payload = {std::byte{1}, std::byte{2}, std::byte{3}}}; }

/// Puts the right digest at the end of changed bytes, as a writer with other ideas would.
void seal(std::vector<std::byte>& bytes) {
  const auto digest =
      llvm::SHA256::hash({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size() - 32});
  std::memcpy(bytes.data() + bytes.size() - 32, digest.data(), 32);
}

TEST(Entry, RoundTripKeepsManifestAndPayload) {
  const Result<std::vector<std::byte>> bytes = encode(sample());
  ASSERT_TRUE(bytes.has_value());
  const Result<Entry> decoded = decode(*bytes);
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  EXPECT_EQ(*decoded, sample());
}

TEST(Entry, EmptyManifestAndPayloadRoundTrip) {
  const Result<std::vector<std::byte>> bytes = encode({});
  ASSERT_TRUE(bytes.has_value());
  EXPECT_EQ(bytes->size(), kEntryOverheadBytes);
  EXPECT_EQ(decode(*bytes), Entry{});
}

// Written out by Python from the grammar: struct.pack for the numbers, hashlib.sha256 for the digest.
TEST(Entry, BytesOnDiskAreThoseOfTheGrammar) {
  const Result<std::vector<std::byte>> bytes = encode(sample());
  ASSERT_TRUE(bytes.has_value());
  const llvm::ArrayRef raw(reinterpret_cast<const std::uint8_t*>(bytes->data()), bytes->size());
  EXPECT_EQ(llvm::toHex(raw, /*LowerCase=*/true),
            "4c5554534d49544802000000070000007b2261223a317d000000000300000000"
            "0000000300000000000000010203e739c077ebca68e3f41c01f7b93a41d07db4"
            "23fbb6a5a31ddcf18418af1ea76e");
}

TEST(Entry, EveryTruncationIsFound) {
  const std::vector<std::byte> bytes = encode(sample()).value();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const Result<Entry> decoded = decode(std::span(bytes).first(length));
    ASSERT_FALSE(decoded.has_value()) << "cut to " << length;
    EXPECT_EQ(decoded.error().code, ErrorCode::corrupt_data) << "cut to " << length;
  }
}

TEST(Entry, EveryFlippedBitIsFound) {
  const std::vector<std::byte> bytes = encode(sample()).value();
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::vector<std::byte> damaged = bytes;
    damaged[bit / 8] ^= std::byte{1} << (bit % 8);
    const Result<Entry> decoded = decode(damaged);
    ASSERT_FALSE(decoded.has_value()) << "bit " << bit;
    EXPECT_EQ(decoded.error().code, ErrorCode::corrupt_data) << "bit " << bit;
  }
}

TEST(Entry, BytesBehindTheEndAreFound) {
  std::vector<std::byte> bytes = encode(sample()).value();
  bytes.push_back(std::byte{0});
  EXPECT_FALSE(decode(bytes).has_value());
  seal(bytes);
  EXPECT_FALSE(decode(bytes).has_value()) << "even with a digest that is right";
}

TEST(Entry, IntactEntryOfANewerVersionIsNotCalledDamaged) {
  std::vector<std::byte> bytes = encode(sample()).value();
  bytes[8] = std::byte{kEntryVersion + 1};
  seal(bytes);
  const Result<Entry> decoded = decode(bytes);
  ASSERT_FALSE(decoded.has_value());
  EXPECT_EQ(decoded.error().code, ErrorCode::unsupported);
}

TEST(Entry, IntactEntryOfAnOlderVersionIsAsGoodAsNone) {
  std::vector<std::byte> bytes = encode(sample()).value();
  bytes[8] = std::byte{kEntryVersion - 1};
  seal(bytes);
  const Result<Entry> decoded = decode(bytes);
  ASSERT_FALSE(decoded.has_value());
  EXPECT_EQ(decoded.error().code, ErrorCode::not_found);
}

TEST(Entry, PayloadIsPackedWhereThatPaysAndOnlyThere) {
  Entry repeating{.manifest = "{}", .payload = std::vector<std::byte>(100'000, std::byte{7})};
  const std::vector<std::byte> packed = encode(repeating).value();
  EXPECT_LT(packed.size(), 1000U);
  EXPECT_EQ(decode(packed), repeating);

  std::mt19937_64 random(1);
  Entry noise = repeating;
  std::ranges::generate(noise.payload, [&] { return static_cast<std::byte>(random()); });
  const std::vector<std::byte> plain = encode(noise).value();
  EXPECT_EQ(plain.size(), kEntryOverheadBytes + 2 + 100'000);
  EXPECT_EQ(decode(plain), noise);
}

TEST(Entry, PackedPayloadThatUnpacksToAnotherSizeThanStatedIsFound) {
  const Entry entry{.manifest = "", .payload = std::vector<std::byte>(100'000, std::byte{7})};
  const std::vector<std::byte> good = encode(entry).value();
  const std::size_t size_at = 8 + 4 + 4 + 4;
  for (const std::uint64_t lie : {std::uint64_t{0}, std::uint64_t{99'999}, std::uint64_t{100'001},
                                  std::uint64_t{kMaxPayloadBytes} + 1, ~std::uint64_t{0}}) {
    std::vector<std::byte> bytes = good;
    std::memcpy(bytes.data() + size_at, &lie, sizeof lie);
    seal(bytes);
    const Result<Entry> decoded = decode(bytes);
    ASSERT_FALSE(decoded.has_value()) << lie;
    EXPECT_EQ(decoded.error().code, ErrorCode::corrupt_data) << lie;
  }
}

// zstd skips a frame that begins with 0x184d2a50, and whatever it holds.
TEST(Entry, BytesBehindAPackedPayloadAreFound) {
  std::vector<std::byte> bytes = encode({.manifest = "", .payload = std::vector<std::byte>(1000)}).value();
  const std::size_t length_at = 8 + 4 + 4 + 4 + 8;
  const std::string_view skipped("\x50\x2a\x4d\x18\3\0\0\0abc", 11);
  bytes[length_at] = std::byte(std::to_integer<unsigned>(bytes[length_at]) + skipped.size());
  const auto skipped_bytes = std::as_bytes(std::span(skipped));
  bytes.insert(bytes.end() - 32, skipped_bytes.begin(), skipped_bytes.end());
  seal(bytes);
  const Result<Entry> decoded = decode(bytes);
  ASSERT_FALSE(decoded.has_value());
  EXPECT_EQ(decoded.error().code, ErrorCode::corrupt_data);
}

TEST(Entry, UnknownEncodingIsFound) {
  std::vector<std::byte> bytes = encode(sample()).value();
  bytes[16 + sample().manifest.size()] = std::byte{2};
  seal(bytes);
  EXPECT_EQ(decode(bytes).error().code, ErrorCode::corrupt_data);
}

TEST(Entry, LyingLengthsUnderARightDigestAreFound) {
  const std::vector<std::byte> good = encode(sample()).value();
  const std::size_t payload_size_at = 16 + sample().manifest.size() + 4;
  const std::size_t payload_length_at = payload_size_at + 8;
  for (const std::size_t at : {std::size_t{12}, payload_size_at, payload_length_at}) {
    for (const std::byte value : {std::byte{0x00}, std::byte{0x7f}, std::byte{0xff}}) {
      std::vector<std::byte> bytes = good;
      // All bytes of the length, so that sums with it would wrap around.
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), at == 12 ? 4 : 8, value);
      seal(bytes);
      const Result<Entry> decoded = decode(bytes);
      ASSERT_FALSE(decoded.has_value()) << "length at " << at << " of bytes " << std::to_integer<int>(value);
      EXPECT_EQ(decoded.error().code, ErrorCode::corrupt_data);
    }
  }
}

TEST(Entry, OverlongManifestIsRefusedBeforeItIsWritten) {
  Entry entry;
  entry.manifest.resize(kMaxManifestBytes + 1);
  const Result<std::vector<std::byte>> bytes = encode(entry);
  ASSERT_FALSE(bytes.has_value());
  EXPECT_EQ(bytes.error().code, ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace lutsmith::cache
