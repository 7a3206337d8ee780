#include "cache/stores/background.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>
#include <vector>

namespace lutsmith::cache {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;

TEST(BackgroundWorker, RunsJobsInOrderAndFlushWaitsForTheLast) {
  std::vector<int> done;
  BackgroundWorker worker(100);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(worker.run([&done, i] { done.push_back(i); }));
  }
  ASSERT_TRUE(worker.flush(minutes(1)));
  ASSERT_EQ(done.size(), 100U);
  EXPECT_TRUE(std::ranges::is_sorted(done));
}

TEST(BackgroundWorker, JobsBeyondTheBoundAreDropped) {
  std::promise<void> started;
  std::promise<void> go_on;
  std::atomic<int> done{0};
  BackgroundWorker worker(2);
  worker.run([&] {
    started.set_value();
    go_on.get_future().wait();
  });
  started.get_future().wait();
  EXPECT_TRUE(worker.run([&] { ++done; }));
  EXPECT_TRUE(worker.run([&] { ++done; }));
  EXPECT_FALSE(worker.run([&] { ++done; }));
  EXPECT_FALSE(worker.flush(milliseconds(1)));
  go_on.set_value();
  EXPECT_TRUE(worker.flush(minutes(1)));
  EXPECT_EQ(done, 2);
}

TEST(BackgroundWorker, DestructionDropsWhatWaits) {
  std::promise<void> started;
  std::promise<void> go_on;
  std::atomic<int> done{0};
  std::thread helper;
  {
    BackgroundWorker worker(2);
    worker.run([&] {
      started.set_value();
      go_on.get_future().wait();
    });
    started.get_future().wait();
    worker.run([&] { ++done; });
    helper = std::thread([&] {
      std::this_thread::sleep_for(milliseconds(50));  // the destructor is most likely waiting by then
      go_on.set_value();
    });
  }
  helper.join();
  EXPECT_LE(done, 0);
}

TEST(BackgroundWorker, ForkedCopyNeitherRunsNorWaits) {
  BackgroundWorker parents(2);
  std::promise<void> started;
  std::promise<void> go_on;
  parents.run([&] {
    started.set_value();
    go_on.get_future().wait();
  });
  started.get_future().wait();
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // a child that hangs must not hold up the test for ever
    const bool refused = !parents.run([] {});
    const bool flushed = parents.flush(minutes(10));
    parents.~BackgroundWorker();
    BackgroundWorker own(1);
    const bool works = own.run([] {}) && own.flush(minutes(1));
    _exit(refused && !flushed && works ? 0 : 1);
  }
  go_on.set_value();
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(parents.flush(minutes(1)));
}

TEST(BackgroundWorker, JobThatThrowsEndsAloneAndTheNextIsRun) {
  BackgroundWorker worker(10);
  std::atomic<bool> ran{false};
  ASSERT_TRUE(worker.run([] { throw std::runtime_error("a log callback of the user's"); }));
  ASSERT_TRUE(worker.run([&] { ran = true; }));
  EXPECT_TRUE(worker.flush(minutes(1)));
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace lutsmith::cache
