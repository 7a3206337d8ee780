#include "cli/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "temporary_directory.h"

namespace lutsmith::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> complaints(const std::vector<std::string>& environment) {
  return environment_complaints(environment);
}

TEST(Environment, WhatIsReadAndWhatIsOthersIsFine) {
  std::vector<std::string> environment = {"PATH=/bin", "LUTSMITH=x", "MY_LUTSMITH_X=1", ""};
  for (const std::string_view name : known_variables()) environment.push_back(std::string(name) + "=");
  environment.emplace_back("LUTSMITH_COMPILE=never");
  environment.emplace_back("LUTSMITH_NVRTC=/anything");  // the search for the compiler tells of that
  EXPECT_THAT(complaints(environment), IsEmpty());
}

TEST(Environment, MisspeltNameIsToldWithTheOneThatWasMeant) {
  EXPECT_THAT(
      complaints({"LUTSMITH_CACHE_DIRR=/x"}),
      ElementsAre(
          "LUTSMITH_CACHE_DIRR: nothing reads a variable of this name; was LUTSMITH_CACHE_DIR meant?"));
  EXPECT_THAT(complaints({"lutsmith_nvrtc=/x"}), ElementsAre(HasSubstr("was LUTSMITH_NVRTC meant?")));
  EXPECT_THAT(complaints({"LUTSMITH_NVTRC=/x"}), ElementsAre(HasSubstr("was LUTSMITH_NVRTC meant?")));
  EXPECT_THAT(complaints({"LUTSMITH_JOB=2"}), ElementsAre(HasSubstr("was LUTSMITH_JOBS meant?")));
  EXPECT_THAT(complaints({"LUTSMITH_CACHE=/x"}), ElementsAre(HasSubstr("was LUTSMITH_CACHE_DIR meant?")));
  EXPECT_THAT(complaints({"LUTSMITH_REMOTE=/x"}), ElementsAre(HasSubstr("was LUTSMITH_REMOTE_CACHE meant?")));
}

TEST(Environment, NameThatIsLikeNoneIsToldWithAllThereAre) {
  for (const char* name : {"LUTSMITH_SOMETHING_ELSE_ENTIRELY", "LUTSMITH_X", "LUTSMITH_FOO", "LUTSMITH_DEBUG",
                           "LUTSMITH_", "LUTSMITH_LOG"}) {
    EXPECT_THAT(complaints({std::string(name) + "=1"}), ElementsAre(HasSubstr("there are LUTSMITH_")))
        << name;
  }
}

TEST(Environment, ValueThatCannotBeUsedIsToldWithItsReason) {
  const TemporaryDirectory directory;
  const std::string folder = directory.path();
  EXPECT_THAT(complaints({"LUTSMITH_COMPILE=sometimes"}),
              ElementsAre(HasSubstr("allowed: when-needed, never")));
  EXPECT_THAT(complaints({"LUTSMITH_RECORD=" + folder}), ElementsAre(HasSubstr("not a regular file")));
  EXPECT_THAT(complaints({"LUTSMITH_RECORD=" + folder + "/no/file"}),
              ElementsAre(HasSubstr("no file can be made")));
  EXPECT_THAT(complaints({"LUTSMITH_RECORD=" + folder + "/file"}), IsEmpty());
  EXPECT_THAT(directory.names(), IsEmpty()) << "nothing was made";
  EXPECT_THAT(complaints({"LUTSMITH_REMOTE_CACHE_CA=/nonexistent.pem"}),
              ElementsAre(HasSubstr("No such file or directory")));
}

}  // namespace
}  // namespace lutsmith::cli
