#include "runtime/recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "processes.h"
#include "temporary_directory.h"

namespace lutsmith {
namespace {

Request request(std::int64_t n) {
  return {.spec = {.format = {.n = n, .k = 4096}, .m = 1, .target = *Target::parse("sm_90a")}, .choice = {}};
}

class RecorderTest : public testing::Test {
 protected:
  std::unique_ptr<Recorder> open() {
    auto recorder = Recorder::open(file_);
    EXPECT_TRUE(recorder.has_value());
    return *std::move(recorder);
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> found;
    std::ifstream file(file_);
    for (std::string line; std::getline(file, line);) found.push_back(line);
    return found;
  }

  TemporaryDirectory directory_;
  std::filesystem::path file_ = directory_.path() / "requests.jsonl";
};

TEST_F(RecorderTest, WritesEachDistinctRequestOnce) {
  const auto recorder = open();
  for (const std::int64_t n : {1024, 2048, 1024}) EXPECT_TRUE(recorder->record(request(n)).has_value());
  Request with_schedule = request(1024);
  with_schedule.choice = Schedule(FewTokensSchedule{.warps = 4});
  EXPECT_TRUE(recorder->record(with_schedule).has_value());
  ASSERT_EQ(lines().size(), 3U);
  EXPECT_EQ(nlohmann::json::parse(lines()[0])["n"], 1024);
  EXPECT_FALSE(nlohmann::json::parse(lines()[0]).contains("schedule"));
  EXPECT_EQ(nlohmann::json::parse(lines()[2])["schedule"]["warps"], 4);
}

TEST_F(RecorderTest, ProgramThatStartsAgainAddsOnlyWhatIsNew) {
  ASSERT_TRUE(open()->record(request(1024)).has_value());
  const auto again = open();
  ASSERT_TRUE(again->record(request(1024)).has_value());
  ASSERT_TRUE(again->record(request(2048)).has_value());
  EXPECT_EQ(lines().size(), 2U);
}

TEST_F(RecorderTest, LinesOfManyProcessesDoNotMix) {
  constexpr int kProcesses = 16;
  constexpr int kRequests = 50;
  Processes processes;
  for (int process = 0; process < kProcesses; ++process) {
    processes.start([&] {
      const auto recorder = open();
      for (int i = 0; i < kRequests; ++i) {
        if (!recorder->record(request(64 * (process * kRequests + i + 1)))) return 1;
      }
      return 0;
    });
  }
  EXPECT_EQ(processes.successes(), kProcesses);
  std::set<std::int64_t> seen;
  for (const std::string& line : lines()) seen.insert(nlohmann::json::parse(line)["n"].get<std::int64_t>());
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(kProcesses * kRequests));
}

TEST_F(RecorderTest, FileThatCannotBeWrittenIsAnErrorThatNamesIt) {
  const auto recorder = Recorder::open(directory_.path() / "none" / "requests.jsonl");
  ASSERT_FALSE(recorder.has_value());
  EXPECT_THAT(recorder.error().message, testing::HasSubstr("none/requests.jsonl"));
}

TEST_F(RecorderTest, PipeIsRefusedInsteadOfWaitedFor) {
  ASSERT_EQ(mkfifo(file_.c_str(), 0600), 0);
  EXPECT_FALSE(Recorder::open(file_).has_value());
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);  // what a container's standard error is
  const auto recorder = Recorder::open("/proc/self/fd/" + std::to_string(ends[1]));
  ASSERT_FALSE(recorder.has_value());
  EXPECT_THAT(recorder.error().message, testing::HasSubstr("not a regular file"));
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace lutsmith
