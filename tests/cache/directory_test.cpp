#include "cache/directory.h"

#include <gtest/gtest.h>

namespace lutsmith::cache {
namespace {

DirectoryEnvironment everything_set() {
  return {.lutsmith_cache_dir = "/given",
          .xdg_cache_home = "/xdg",
          .home = "/home/ann",
          .passwd_home = "/people/ann"};
}

TEST(CacheDirectory, OwnVariableComesFirst) { EXPECT_EQ(cache_directory(everything_set()), "/given"); }

TEST(CacheDirectory, XdgComesSecond) {
  DirectoryEnvironment environment = everything_set();
  environment.lutsmith_cache_dir.clear();
  EXPECT_EQ(cache_directory(environment), "/xdg/lutsmith");
}

TEST(CacheDirectory, RelativeXdgPathIsIgnored) {
  DirectoryEnvironment environment = everything_set();
  environment.lutsmith_cache_dir.clear();
  environment.xdg_cache_home = "cache";
  EXPECT_EQ(cache_directory(environment), "/home/ann/.cache/lutsmith");
}

TEST(CacheDirectory, UserDatabaseStandsInForAMissingHome) {
  DirectoryEnvironment environment{
      .lutsmith_cache_dir = {}, .xdg_cache_home = {}, .home = {}, .passwd_home = "/people/ann"};
  EXPECT_EQ(cache_directory(environment), "/people/ann/.cache/lutsmith");
}

TEST(CacheDirectory, NothingSetGivesNoDirectory) { EXPECT_TRUE(cache_directory({}).empty()); }

TEST(CacheDirectory, RelativeOwnVariableDoesNotFollowTheWorkingDirectory) {
  EXPECT_TRUE(
      cache_directory({.lutsmith_cache_dir = "kernels", .xdg_cache_home = {}, .home = {}, .passwd_home = {}})
          .is_absolute());
}

}  // namespace
}  // namespace lutsmith::cache
