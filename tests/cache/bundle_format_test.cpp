#include "cache/bundles/bundle_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "key_files.h"
#include "must.h"
#include "temporary_directory.h"

namespace lutsmith::cache {
namespace {

using test::must;

const std::string kKeyA(64, 'a');
const std::string kKeyB(64, 'b');
const std::string kDigest(64, '0');

std::string entry(const std::string& key, const std::string& bytes = "7") {
  return R"({"key":")" + key + R"(","bytes":)" + bytes + R"(,"sha256":")" + kDigest + R"("})";
}

std::string index_of(const std::string& entries) {
  return R"({"schema":1,"created":"2025-01-31T23:59:59Z","signer":"","entries":[)" + entries + "]}";
}

BundleIndex sample() {
  return {.created = "2025-01-31T23:59:59Z",
          .signer = "",
          .entries = {{.key = Key::parse(kKeyA).value(), .bytes = 7, .sha256 = kDigest}}};
}

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

void expect_corrupt(const std::string& json) {
  const Result<BundleIndex> parsed = parse_bundle_index(json);
  ASSERT_FALSE(parsed.has_value()) << json.substr(0, 300);
  EXPECT_EQ(parsed.error().code, ErrorCode::corrupt_data) << parsed.error().message;
}

TEST(BundleIndex, TextIsThatOfTheGrammar) {
  const std::vector<std::byte> head = must(write_bundle_head(sample(), nullptr));
  const std::string text = index_of(entry(kKeyA));
  const std::string expected = std::string("LUTSBNDL\1\0\0\0", 12) + static_cast<char>(text.size()) +
                               std::string("\0\0\0", 3) + text + std::string(4, '\0');
  ASSERT_LT(text.size(), 256U);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(head.data()), head.size()), expected);
  EXPECT_EQ(must(parse_bundle_index(text)), sample());
}

TEST(BundleIndex, BlanksAndOrderOfMembersDoNotMatter) {
  EXPECT_EQ(
      must(parse_bundle_index(R"( {"entries": [ {"sha256":")" + kDigest + R"(", "bytes":7,"key":")" + kKeyA +
                              R"("}], "signer":"", "schema":1,)"
                              "\n"
                              R"("created" : "2025-01-31T23:59:59Z"} )")),
      sample());
}

TEST(BundleIndex, KeysThatAreNoKeysAreRefused) {
  for (const std::string& key :
       {std::string("../../etc/passwd"), std::string("/etc/passwd"), std::string(64, 'A'),
        std::string(63, 'a'), std::string(65, 'a'), std::string(), "../" + std::string(61, 'a'),
        std::string(62, 'a') + "\\n", std::string(63, 'a') + "\\u0000", std::string(64, 'g')}) {
    expect_corrupt(index_of(entry(key)));
  }
}

TEST(BundleIndex, KeysGivenTwiceOrOutOfOrderAreRefused) {
  EXPECT_EQ(must(parse_bundle_index(index_of(entry(kKeyA) + "," + entry(kKeyB)))).entries.size(), 2U);
  expect_corrupt(index_of(entry(kKeyA) + "," + entry(kKeyA)));
  expect_corrupt(index_of(entry(kKeyB) + "," + entry(kKeyA)));
}

TEST(BundleIndex, SizesNoEntryHasAreRefused) {
  for (const char* bytes :
       {"0", "-1", "1.5", "7e0", "67174504000", "18446744073709551615", "18446744073709551616",
        "99999999999999999999999999", "1e999", "\"7\"", "null", "[7]", "{}", "true"}) {
    expect_corrupt(index_of(entry(kKeyA, bytes)));
  }
}

TEST(BundleIndex, MembersMissingUnknownOrGivenTwiceAreRefused) {
  const std::string good = index_of(entry(kKeyA));
  for (const std::string& member :
       {std::string(R"("schema":1,)"), std::string(R"("created":"2025-01-31T23:59:59Z",)"),
        std::string(R"("signer":"",)"), std::string(R"("bytes":7,)"), R"("key":")" + kKeyA + R"(",)"}) {
    std::string changed = good;
    const std::size_t at = changed.find(member);
    ASSERT_NE(at, std::string::npos) << member;
    changed.erase(at, member.size());
    expect_corrupt(changed);
    changed.insert(at, member + member);
    expect_corrupt(changed);
    changed = good;
    changed.insert(at, R"("path":"x",)");
    expect_corrupt(changed);
  }
}

TEST(BundleIndex, ValuesOfTheWrongKindAreRefused) {
  const std::string good = index_of(entry(kKeyA));
  const auto with = [&good](std::string_view from, std::string_view to) {
    std::string changed = good;
    return changed.replace(changed.find(from), from.size(), to);
  };
  for (const char* value : {"0", "\"1\"", "-1", "1.0", "null", "[]", "{}"}) {
    expect_corrupt(with("\"schema\":1", std::string("\"schema\":") + value));
  }
  for (const char* value : {"\"yesterday\"", "\"2025-01-31 23:59:59Z\"", "\"\"", "1", "null",
                            "\"2025-01-31T23:59:59Z\\u0000\"", "\"2025-01-31T23:59:5\\u001bZ\""}) {
    expect_corrupt(with("\"2025-01-31T23:59:59Z\"", value));
  }
  for (const char* value : {"\"me\"", "0", "null", "[\"\"]"}) {
    expect_corrupt(with("\"signer\":\"\"", std::string("\"signer\":") + value));
  }
  expect_corrupt(with(kDigest, "00"));
  for (const char* value : {"", "null", "1", "\"entries\"", "[]", "{}", "{\"entries\":[]}", "[[]]"})
    expect_corrupt(value);
  expect_corrupt(index_of("1"));
  expect_corrupt(index_of("[]"));
  expect_corrupt(index_of("null"));
  expect_corrupt(index_of("{}"));
}

TEST(BundleIndex, TextAfterTheEndAndInvalidTextAreRefused) {
  const std::string good = index_of(entry(kKeyA));
  expect_corrupt(good + "{}");
  expect_corrupt(good + std::string(1, '\0'));
  expect_corrupt("\xff" + good);
  expect_corrupt(index_of(entry("\xc3\x28" + std::string(62, 'a'))));
  for (std::size_t length = 0; length < good.size(); ++length) expect_corrupt(good.substr(0, length));
}

TEST(BundleIndex, DeepNestingIsRefusedAtItsFirstLevel) {
  std::string deep;
  deep.resize(10'000'000, '[');
  expect_corrupt(deep);
  expect_corrupt(index_of(deep));
  expect_corrupt(R"({"schema":)" + deep);
}

TEST(BundleIndex, NewerSchemaIsCalledUnsupported) {
  const Result<BundleIndex> parsed = parse_bundle_index(R"({"schema":2,"what":"ever"})");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().code, ErrorCode::unsupported);
}

TEST(BundleIndex, MessagesNeverQuoteTheText) {
  const std::string hostile = "\\u001b]0;owned\\u0007";
  for (const std::string& json : {index_of(entry(hostile)), "{\"" + hostile + "\":1}", "{" + hostile}) {
    const Result<BundleIndex> parsed = parse_bundle_index(json);
    ASSERT_FALSE(parsed.has_value());
    EXPECT_THAT(parsed.error().message + parsed.error().context, testing::Not(testing::HasSubstr("owned")));
  }
}

class BundleHeads : public testing::TestWithParam<bool> {
 protected:
  BundleHeads()
      : signer_(must(SigningKey::read_pem(write_private(directory_.path() / "key.pem", kSeed1)))),
        head_(must(write_bundle_head(sample(), GetParam() ? &signer_ : nullptr))) {}

  TemporaryDirectory directory_;
  SigningKey signer_;
  std::vector<std::byte> head_;
};

TEST_P(BundleHeads, ParsesAsWritten) {
  const std::size_t size = head_.size();
  EXPECT_GE(must(bundle_head_bytes(std::span(head_).first(kBundleStartBytes))), size);
  head_.resize(size + 5);  // what comes behind it does not matter
  const BundleHead head = must(parse_bundle_head(head_));
  EXPECT_EQ(head.bytes, size);
  EXPECT_EQ(head.signature.has_value(), GetParam());
  BundleIndex expected = sample();
  if (GetParam()) expected.signer = signer_.fingerprint();
  EXPECT_EQ(must(parse_bundle_index(head.index)), expected);
  if (GetParam()) {
    const auto trusted =
        must(VerificationKey::read_pem(write_public(directory_.path() / "key.pub", kPublic1)));
    EXPECT_TRUE(trusted.verify(head.covered, *head.signature).has_value());
  }
}

TEST_P(BundleHeads, EveryTruncationIsRefused) {
  for (std::size_t length = 0; length < head_.size(); ++length) {
    const Result<BundleHead> head = parse_bundle_head(std::span(head_).first(length));
    ASSERT_FALSE(head.has_value()) << "cut to " << length;
    EXPECT_EQ(head.error().code, ErrorCode::corrupt_data) << "cut to " << length;
  }
}

TEST_P(BundleHeads, LyingLengthsAreRefused) {
  const std::size_t signature_length_at = must(parse_bundle_head(head_)).covered.size();
  for (const std::size_t at : {std::size_t{12}, signature_length_at}) {
    for (const char* length :
         {"\1\1\0\0", "\xff\xff\xff\xff", "\0\0\0\x80", "\0\0\0\4", "\1\0\0\4", "\x3f\0\0\0", "\x41\0\0\0"}) {
      std::vector<std::byte> changed = head_;
      std::ranges::copy(std::as_bytes(std::span(length, 4)),
                        changed.begin() + static_cast<std::ptrdiff_t>(at));
      const Result<BundleHead> head = parse_bundle_head(changed);
      ASSERT_FALSE(head.has_value()) << "at " << at;
      EXPECT_EQ(head.error().code, ErrorCode::corrupt_data) << "at " << at;
    }
  }
}

TEST_P(BundleHeads, NewerVersionIsCalledUnsupportedAndVersionZeroCorrupt) {
  head_[8] = std::byte{2};
  EXPECT_EQ(parse_bundle_head(head_).error().code, ErrorCode::unsupported);
  head_[8] = std::byte{0};
  EXPECT_EQ(parse_bundle_head(head_).error().code, ErrorCode::corrupt_data);
}

INSTANTIATE_TEST_SUITE_P(, BundleHeads, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Signed" : "Unsigned"; });

TEST(BundleHead, NothingShortIsABundle) {
  EXPECT_FALSE(parse_bundle_head({}).has_value());
  EXPECT_FALSE(parse_bundle_head(bytes_of("LUTSMITH")).has_value());
  EXPECT_FALSE(parse_bundle_head(bytes_of("LUTSBNDL")).has_value());
}

}  // namespace
}  // namespace lutsmith::cache
