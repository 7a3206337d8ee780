#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "cache/bundles/bundle.h"
#include "cache/stores/memory_store.h"
#include "entries.h"
#include "key_files.h"
#include "must.h"
#include "temporary_directory.h"

namespace lutsmith::cache {

inline Entry entry_of(const Key& key, char fill = 'x', std::size_t size = 20) {
  return {.manifest = R"({"key":")" + key.hex() + R"("})",
          .payload = std::vector<std::byte>(size, static_cast<std::byte>(fill))};
}

inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::string sha256(std::string_view text) {
  return llvm::toHex(llvm::SHA256::hash({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}),
                     /*LowerCase=*/true);
}

inline std::string number(std::uint64_t value, int bytes = 4) {
  std::string digits;
  for (int index = 0; index < bytes; ++index) digits += static_cast<char>(value >> (8 * index) & 0xffU);
  return digits;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline std::map<Key, Entry> contents(Store& store) {
  std::map<Key, Entry> entries;
  for (const Key& key : test::must(all_keys(store))) entries[key] = test::must(store.get(key)).entry;
  return entries;
}

/// A line of an index that was written by hand.
inline std::string line_of(const std::string& key, std::string_view entry) {
  return R"({"key":")" + key + R"(","bytes":)" + std::to_string(entry.size()) + R"(,"sha256":")" +
         sha256(entry) + R"("})";
}

/// A bundle made from the grammar, with whatever is in the index. `signer` in the index is that of the
/// key, or what is given.
inline std::string forge(const std::string& lines, const std::string& entries, const SigningKey* key,
                         const std::string& claimed = "") {
  const std::string signer = claimed.empty() && key != nullptr ? key->fingerprint() : claimed;
  const std::string index = R"({"schema":1,"created":"2025-01-31T23:59:59Z","signer":")" + signer +
                            R"(","entries":[)" + lines + "]}";
  std::string head = "LUTSBNDL" + number(1) + number(index.size()) + index;
  if (key == nullptr) return head + number(0) + entries;
  const Signature signature = test::must(key->sign(std::as_bytes(std::span(head))));
  return head + number(64) + text_of(signature) + entries;
}

class BundleTest : public testing::Test {
 protected:
  BundleTest()
      : signer_(test::must(SigningKey::read_pem(write_private(path("key.pem"), kSeed1)))),
        other_signer_(test::must(SigningKey::read_pem(write_private(path("other.pem"), kSeed2)))),
        trusted_(test::must(VerificationKey::read_pem(write_public(path("key.pub"), kPublic1)))) {
    test::must(from_.put(key_of("a"), entry_of(key_of("a"))));
    test::must(from_.put(key_of("b"), entry_of(key_of("b"), 'y', 0)));
  }

  std::filesystem::path path(const char* name = "bundle") const { return directory_.path() / name; }

  Result<ExportSummary> export_all(const SigningKey* signer, const char* name = "bundle") {
    return export_bundle(from_, test::must(all_keys(from_)), path(name),
                         {.signer = signer, .created = kTime});
  }
  Result<ImportSummary> import_trusted() { return import_bundle(path(), into_, {.trusted = &trusted_}); }
  Result<ImportSummary> import_unsigned() {
    return import_bundle(path(), into_, {.unsigned_bundles = Unsigned::allow});
  }

  /// The file must be refused with this code, and nothing of it imported.
  void expect_refused(const Result<ImportSummary>& summary, ErrorCode code, std::string_view reason = "") {
    ASSERT_FALSE(summary.has_value());
    EXPECT_EQ(summary.error().code, code) << summary.error().message;
    EXPECT_THAT(summary.error().message, testing::HasSubstr(std::string(reason)));
    EXPECT_TRUE(contents(into_).empty());
  }

  static constexpr std::chrono::sys_seconds kTime{std::chrono::seconds(1738367999)};
  TemporaryDirectory directory_;
  SigningKey signer_;
  SigningKey other_signer_;
  VerificationKey trusted_;
  MemoryStore from_;
  MemoryStore into_;
};

}  // namespace lutsmith::cache
