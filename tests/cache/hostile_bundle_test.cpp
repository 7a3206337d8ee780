// Bundles that were damaged, changed or made up: none may put anything into a store.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "bundle_fixture.h"
#include "cache/bundles/bundle.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;
using test::must;

TEST_F(BundleTest, EveryFlippedBitOfASignedBundleIsRefused) {
  must(export_all(&signer_));
  std::string bytes = read_text(path());
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    const auto flip = [&] { bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8))); };
    flip();
    write_text(path(), bytes);
    flip();
    ASSERT_FALSE(import_trusted().has_value()) << "bit " << bit << " of " << 8 * bytes.size();
    ASSERT_TRUE(contents(into_).empty()) << "bit " << bit;
  }
  write_text(path(), bytes);
  EXPECT_TRUE(import_trusted().has_value()) << "the bundle itself is good";
}

// Nobody answers for an unsigned bundle, but damage is found all the same: only the time is covered by
// nothing.
TEST_F(BundleTest, EveryFlippedBitOfAnUnsignedBundleIsRefusedButInItsTime) {
  must(export_all(nullptr));
  std::string bytes = read_text(path());
  const std::size_t time_at = bytes.find("2025-01-31T23:59:59Z");
  ASSERT_NE(time_at, std::string::npos);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    if (bit / 8 - time_at < 20) continue;
    const auto flip = [&] { bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8))); };
    flip();
    write_text(path(), bytes);
    flip();
    ASSERT_FALSE(import_unsigned().has_value()) << "bit " << bit << " of " << 8 * bytes.size();
    ASSERT_TRUE(contents(into_).empty()) << "bit " << bit;
  }
}

TEST_F(BundleTest, EveryTruncationIsRefused) {
  for (const SigningKey* signer : {static_cast<const SigningKey*>(nullptr), &std::as_const(signer_)}) {
    must(export_all(signer));
    for (std::size_t length = fs::file_size(path()); length-- > 0;) {
      fs::resize_file(path(), length);
      ASSERT_FALSE((signer == nullptr ? import_unsigned() : import_trusted()).has_value())
          << "cut to " << length;
      ASSERT_TRUE(contents(into_).empty()) << "cut to " << length;
    }
  }
}

TEST_F(BundleTest, BytesBehindTheEndAreRefused) {
  must(export_all(&signer_));
  const std::string bytes = read_text(path());
  for (const std::string& more : {std::string(1, '\0'), std::string("x"), bytes}) {
    write_text(path(), bytes + more);
    expect_refused(import_trusted(), ErrorCode::corrupt_data);
  }
}

TEST_F(BundleTest, IndexSignedByAnotherKeyIsRefusedAndBothKeysAreNamed) {
  must(export_all(&other_signer_));
  const Result<ImportSummary> summary = import_trusted();
  expect_refused(summary, ErrorCode::invalid_argument, other_signer_.fingerprint());
  EXPECT_THAT(summary.error().message, testing::HasSubstr(trusted_.fingerprint()));
  EXPECT_THAT(summary.error().message, testing::HasSubstr(path().string()));
}

TEST_F(BundleTest, SignerNamedInTheIndexMustBeTheOneWhoSigned) {
  const std::string entry = text_of(must(encode(entry_of(key_of("a")))));
  const std::string line = line_of(key_of("a").hex(), entry);
  write_text(path(), forge(line, entry, &other_signer_, signer_.fingerprint()));
  expect_refused(import_trusted(), ErrorCode::corrupt_data, "changed after it was signed");
  write_text(path(), forge(line, entry, &signer_, other_signer_.fingerprint()));
  expect_refused(import_trusted(), ErrorCode::corrupt_data, "did not sign");
  write_text(path(), forge(line, entry, nullptr, signer_.fingerprint()));  // the signature cut out
  expect_refused(import_unsigned(), ErrorCode::corrupt_data, "did not sign");
}

TEST_F(BundleTest, UnsignedBundleIsImportedOnlyWhereThatIsAllowedAndNoKeyIsTrusted) {
  must(export_all(nullptr));
  expect_refused(import_bundle(path(), into_), ErrorCode::invalid_argument, "not signed");
  expect_refused(import_trusted(), ErrorCode::invalid_argument, trusted_.fingerprint());
  expect_refused(import_bundle(path(), into_, {.trusted = &trusted_, .unsigned_bundles = Unsigned::allow}),
                 ErrorCode::invalid_argument, "not signed");
  const ImportSummary summary = must(import_unsigned());
  EXPECT_EQ(summary.imported, 2U);
  EXPECT_EQ(summary.signer, "");
  EXPECT_EQ(contents(into_), contents(from_));
}

TEST_F(BundleTest, SignedBundleIsRefusedWithoutATrustedKey) {
  must(export_all(&signer_));
  expect_refused(import_bundle(path(), into_), ErrorCode::invalid_argument, signer_.fingerprint());
  expect_refused(import_unsigned(), ErrorCode::invalid_argument, signer_.fingerprint());
}

TEST_F(BundleTest, KeysThatArePathsOrNotLowerCaseAreRefusedEvenIfSigned) {
  const std::string entry = text_of(must(encode(entry_of(key_of("a")))));
  std::string upper = key_of("a").hex();
  std::ranges::transform(upper, upper.begin(),
                         [](char c) { return c >= 'a' && c <= 'f' ? static_cast<char>(c - 32) : c; });
  for (const std::string& key : {std::string("../../etc/passwd"), std::string("/etc/passwd"), upper}) {
    write_text(path(), forge(line_of(key, entry), entry, &signer_));
    expect_refused(import_trusted(), ErrorCode::corrupt_data, "hexadecimal");
  }
}

TEST_F(BundleTest, KeysGivenTwiceAreRefusedEvenIfSigned) {
  const std::string entry = text_of(must(encode(entry_of(key_of("a")))));
  const std::string line = line_of(key_of("a").hex(), entry);
  write_text(path(), forge(line + "," + line, entry + entry, &signer_));
  expect_refused(import_trusted(), ErrorCode::corrupt_data, "twice");
}

// Right bytes under a wrong name would be a wrong kernel.
TEST_F(BundleTest, EntryUnderAnotherKeyIsRefusedEvenIfSigned) {
  for (const std::string& manifest :
       {R"({"key":")" + key_of("b").hex() + R"("})", std::string("{}"), std::string("no JSON"),
        R"({"nested":{"key":")" + key_of("a").hex() + R"("}})", std::string(1000, '['), std::string("[]"),
        R"({"key":[")" + key_of("a").hex() + R"("]})"}) {
    const std::string entry = text_of(must(encode({.manifest = manifest, .payload = {}})));
    write_text(path(), forge(line_of(key_of("a").hex(), entry), entry, &signer_));
    expect_refused(import_trusted(), ErrorCode::corrupt_data, "own description");
  }
}

TEST_F(BundleTest, DamagedLastEntryKeepsTheGoodOnesBeforeItOut) {
  const std::string good = text_of(must(encode(entry_of(key_of("a")))));
  std::string bad = text_of(must(encode(entry_of(key_of("b")))));
  bad.back() = static_cast<char>(bad.back() ^ 1);
  std::map<std::string, std::string> entries = {{key_of("a").hex(), good}, {key_of("b").hex(), bad}};
  std::string lines;
  std::string bytes;
  for (const auto& [key, entry] : entries) {
    if (!lines.empty()) lines += ',';
    lines += line_of(key, entry);
    bytes += entry;
  }
  write_text(path(), forge(lines, bytes, &signer_));
  expect_refused(import_trusted(), ErrorCode::corrupt_data, "is damaged");
}

TEST_F(BundleTest, EntryOfAnotherVersionIsUnsupported) {
  for (const std::uint32_t version : {kEntryVersion + 1, kEntryVersion - 1}) {
    std::string entry = text_of(must(encode(entry_of(key_of("a")))));
    entry.replace(8, 4, number(version));
    entry.replace(entry.size() - 32, 32, llvm::fromHex(sha256(entry.substr(0, entry.size() - 32))));
    write_text(path(), forge(line_of(key_of("a").hex(), entry), entry, &signer_));
    expect_refused(import_trusted(), ErrorCode::unsupported, "version");
  }
}

TEST_F(BundleTest, NewerBundleIsUnsupported) {
  must(export_all(&signer_));
  std::string bytes = read_text(path());
  write_text(path(), bytes.replace(8, 4, number(2)));
  expect_refused(import_trusted(), ErrorCode::unsupported, "use a newer one");
}

TEST_F(BundleTest, HugeLengthsAreRefusedWithoutMemoryForThem) {
  const auto peak_kilobytes = [] {
    struct rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const std::string entry = text_of(must(encode(entry_of(key_of("a")))));
  const std::string largest = R"({"key":")" + key_of("a").hex() + R"(","bytes":)" +
                              std::to_string(kMaxEntryBytes) + R"(,"sha256":")" + sha256(entry) + R"("})";
  const long before = peak_kilobytes();
  write_text(path(), "LUTSBNDL" + number(1) + number(0xffffffff) + "{}");
  expect_refused(import_trusted(), ErrorCode::corrupt_data, "at most");
  write_text(path(), "LUTSBNDL" + number(1) + number(kMaxBundleIndexBytes) + "{}");
  expect_refused(import_trusted(), ErrorCode::corrupt_data, "ends within");
  write_text(path(), forge(largest, entry, &signer_));
  expect_refused(import_trusted(), ErrorCode::corrupt_data, "its index says");
  EXPECT_LT(peak_kilobytes() - before, 32 << 10);
}

TEST_F(BundleTest, BundleThatChangesWhileItIsImportedIsFoundAtTheSecondReading) {
  must(export_all(&signer_));
  const std::string good = read_text(path());
  const auto change = [&](std::size_t done, std::size_t total) {
    EXPECT_EQ(total, 4U);
    if (done != 2) return;  // all are checked, none is put
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(good.size()) - 1);
    file.put(static_cast<char>(good.back() ^ 1));
  };
  const Result<ImportSummary> summary =
      import_bundle(path(), into_, {.trusted = &trusted_, .progress = change});
  ASSERT_FALSE(summary.has_value());
  EXPECT_EQ(summary.error().code, ErrorCode::corrupt_data);
  EXPECT_THAT(summary.error().message, testing::HasSubstr("1 of 2 entries"));
  for (const auto& [key, entry] : contents(into_)) EXPECT_EQ(entry, must(from_.get(key)).entry);
}

TEST_F(BundleTest, BundleCutOffWhileItIsImportedIsAnErrorToo) {
  must(export_all(&signer_));
  const auto cut = [&](std::size_t done, std::size_t /*total*/) {
    if (done == 2) fs::resize_file(path(), 20);
  };
  const Result<ImportSummary> summary = import_bundle(path(), into_, {.trusted = &trusted_, .progress = cut});
  expect_refused(summary, ErrorCode::corrupt_data);
}

TEST_F(BundleTest, WhatIsNoBundleIsRefused) {
  expect_refused(import_trusted(), ErrorCode::not_found, path().string());
  write_text(path(), "");
  expect_refused(import_trusted(), ErrorCode::corrupt_data, path().string());
  write_text(path(), text_of(must(encode(entry_of(key_of("a"))))));
  expect_refused(import_trusted(), ErrorCode::corrupt_data, "does not begin as a bundle");
  expect_refused(import_bundle(directory_.path(), into_), ErrorCode::invalid_argument, "regular file");
}

}  // namespace
}  // namespace lutsmith::cache
