#include "cache/places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lutsmith::cache {
namespace {

using std::filesystem::path;
using testing::ElementsAre;
using testing::HasSubstr;

PlacesEnvironment with_home() {
  PlacesEnvironment environment;
  environment.home = "/home/ann";
  environment.passwd_home = "/people/ann";
  environment.user = 1234;
  return environment;
}

TEST(Places, OwnVariableIsTheOnlyPlaceWhereItIsSet) {
  PlacesEnvironment environment = with_home();
  environment.cache_dir = "/given";
  environment.xdg_cache_home = "/xdg";
  EXPECT_THAT(places(environment).own, ElementsAre("/given"));
}

TEST(Places, XdgDirectoryComesBeforeHome) {
  PlacesEnvironment environment = with_home();
  environment.xdg_cache_home = "/xdg";
  EXPECT_THAT(places(environment).own, ElementsAre("/xdg/lutsmith", "/var/tmp/lutsmith-1234"));
}

TEST(Places, RelativeXdgPathIsIgnored) {
  PlacesEnvironment environment = with_home();
  environment.xdg_cache_home = "cache";
  EXPECT_EQ(places(environment).own.front(), "/home/ann/.cache/lutsmith");
}

TEST(Places, UserDatabaseStandsInForAMissingHome) {
  PlacesEnvironment environment = with_home();
  environment.home.clear();
  EXPECT_EQ(places(environment).own.front(), "/people/ann/.cache/lutsmith");
}

TEST(Places, RelativeOwnVariableDoesNotFollowTheWorkingDirectory) {
  PlacesEnvironment environment;
  environment.cache_dir = "kernels";
  EXPECT_TRUE(places(environment).own.front().is_absolute());
}

TEST(Places, ReadOnlyDirectoriesKeepTheirOrder) {
  PlacesEnvironment environment;
  environment.cache_path = ":/opt/kernels::/usr/share/kernels:";
  EXPECT_THAT(places(environment).system, ElementsAre("/opt/kernels", "/usr/share/kernels"));
  EXPECT_TRUE(places({}).system.empty());
}

TEST(Places, LimitsAreSizesAndNumbers) {
  PlacesEnvironment environment;
  EXPECT_EQ(places(environment).limits, CacheLimits());
  environment.cache_max_bytes = "200M";
  environment.cache_max_entries = "5000";
  const Places found = places(environment);
  EXPECT_EQ(found.limits, (CacheLimits{.bytes = 200U << 20U, .entries = 5000}));
  EXPECT_TRUE(found.complaints.empty());
}

TEST(Places, SettingsThatMakeNoSenseAreLeftOutAndTold) {
  PlacesEnvironment environment;
  environment.cache_max_bytes = "lots";
  environment.cache_max_entries = "-1";
  environment.remote_mode = "readonly";
  environment.remote_connect_ms = "0.5";
  const Places found = places(environment);
  EXPECT_EQ(found.limits, CacheLimits());
  EXPECT_TRUE(found.remote.read_only) << "rather too careful";
  EXPECT_THAT(found.complaints, ElementsAre(HasSubstr("LUTSMITH_CACHE_MAX_BYTES: 'lots'"),
                                            HasSubstr("LUTSMITH_CACHE_MAX_ENTRIES: '-1'"),
                                            HasSubstr("LUTSMITH_REMOTE_CACHE_MODE: 'readonly'"),
                                            HasSubstr("LUTSMITH_REMOTE_CACHE_CONNECT_MS: '0.5'")));
  for (const char* wrong : {"0", "-1", "60001", "1s", "99999999999999999999"}) {
    PlacesEnvironment only;
    only.remote_connect_ms = wrong;
    EXPECT_THAT(places(only).complaints, ElementsAre(HasSubstr("1 to 60000 milliseconds"))) << wrong;
    EXPECT_EQ(places(only).remote.connect_timeout, RemoteCache().connect_timeout);
  }
}

TEST(Places, RemoteCacheComesFromItsVariables) {
  PlacesEnvironment environment;
  EXPECT_TRUE(places(environment).remote.url.empty());
  environment.remote = "http://cache:8080";
  environment.remote_token = "secret";
  environment.remote_certificate = "/c.pem";
  environment.remote_key = "/k.pem";
  environment.remote_authority = "/ca.pem";
  environment.remote_connect_ms = "2500";
  const RemoteCache remote = places(environment).remote;
  EXPECT_EQ(remote.url, "http://cache:8080");
  EXPECT_FALSE(remote.read_only);
  EXPECT_EQ(remote.bearer_token, "secret");
  EXPECT_EQ(remote.client_certificate, "/c.pem");
  EXPECT_EQ(remote.client_key, "/k.pem");
  EXPECT_EQ(remote.certificate_authority, "/ca.pem");
  EXPECT_EQ(remote.connect_timeout, std::chrono::milliseconds(2500));
  environment.remote_mode = "read-only";
  EXPECT_TRUE(places(environment).remote.read_only);
}

TEST(ByteSize, UnitsArePowersOf1024) {
  EXPECT_EQ(parse_byte_size("0"), 0U);
  EXPECT_EQ(parse_byte_size("1234"), 1234U);
  EXPECT_EQ(parse_byte_size("3K"), 3072U);
  EXPECT_EQ(parse_byte_size("2T"), std::uint64_t{2} << 40U);
  for (const char* wrong : {"", "G", "1.5G", "1g", "4GB", "-1", " 1", "99999999999999999999", "99999999T"}) {
    EXPECT_FALSE(parse_byte_size(wrong).has_value()) << wrong;
  }
}

}  // namespace
}  // namespace lutsmith::cache
