#include "cache/key.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace lutsmith::cache {
namespace {

constexpr KeyFields kFields{.source = "__global__ void k() {}\n",
                            .options = "-std=c++17\n",
                            .compiler = "nvrtc 13.0 build 0123",
                            .target = "sm_90a"};

// A digest that changes makes every cache in the field useless, so a change must be deliberate (and come
// with a new schema). Computed apart from the library:
//
//   python3 -c "
//   import hashlib, struct
//   field = lambda text: struct.pack('<Q', len(text)) + text
//   print(hashlib.sha256(b''.join(map(field, [
//       b'lutsmith kernel 1', b'__global__ void k() {}\n', b'-std=c++17\n', b'nvrtc 13.0 build 0123',
//       b'sm_90a']))).hexdigest())"
TEST(Key, GoldenDigestStaysTheSameFromBuildToBuild) {
  EXPECT_EQ(Key::of(kFields).hex(), "a0a2e4f72e2c0f925386c999cea584e758d558bef09e41360f972f10575d4955");
}

TEST(Key, EveryFieldChangesTheDigest) {
  std::set<Key> keys{Key::of(kFields)};
  KeyFields changed = kFields;
  changed.source = "__global__ void k() {} \n";
  keys.insert(Key::of(changed));
  changed = kFields;
  changed.options = "-std=c++20\n";
  keys.insert(Key::of(changed));
  changed = kFields;
  changed.compiler = "nvrtc 13.0 build 0124";
  keys.insert(Key::of(changed));
  changed = kFields;
  changed.target = "sm_90";
  keys.insert(Key::of(changed));
  EXPECT_EQ(keys.size(), 5U);
}

TEST(Key, TextMovedFromOneFieldToTheNextChangesTheDigest) {
  const Key left = Key::of({.source = "ab", .options = "c", .compiler = "", .target = ""});
  const Key right = Key::of({.source = "a", .options = "bc", .compiler = "", .target = ""});
  EXPECT_NE(left, right);
}

TEST(Key, ParseTakesBackWhatHexGives) {
  const Key key = Key::of(kFields);
  const std::optional<Key> parsed = Key::parse(key.hex());
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(*parsed, key);
}

TEST(Key, ParseRefusesWhatCouldLeaveItsFolder) {
  const std::string digits = Key::of(kFields).hex();
  EXPECT_FALSE(Key::parse("").has_value());
  EXPECT_FALSE(Key::parse(digits.substr(1)).has_value());
  EXPECT_FALSE(Key::parse(digits + "0").has_value());
  EXPECT_FALSE(Key::parse("../" + digits.substr(3)).has_value());
  EXPECT_FALSE(Key::parse(std::string(64, 'A')).has_value());
  EXPECT_FALSE(Key::parse(std::string(64, '\0')).has_value());
}

}  // namespace
}  // namespace lutsmith::cache
