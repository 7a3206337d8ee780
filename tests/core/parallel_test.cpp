#include "core/parallel.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <numeric>
#include <system_error>

namespace lutsmith {
namespace {

// Leaves less memory than the stack of one more thread takes.
bool forbid_threads() {
  std::ifstream sizes("/proc/self/statm");
  rlim_t pages = 0;
  if (!(sizes >> pages)) return false;
  const rlim_t limit = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (1 << 20);
  const rlimit memory{limit, limit};
  return setrlimit(RLIMIT_AS, &memory) == 0;
}

// 0 where all work was done, and 3 where the limit limits nothing.
int work_without_more_threads() noexcept {
  std::vector<int> done(100);
  if (!forbid_threads()) return 2;
  try {
    const std::jthread thread([] {});
    return 3;
  } catch (const std::system_error&) {
    parallel_for(done.size(), 8, [&](std::size_t i) { done[i] = 1; });
  }
  return std::accumulate(done.begin(), done.end(), 0) == 100 ? 0 : 1;
}

TEST(Parallel, WorkIsDoneByTheThreadsThereAreWhereNoMoreCanBeStarted) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more memory than the limit leaves";
#endif
  const pid_t child = fork();
  if (child == 0) _exit(work_without_more_threads());
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace lutsmith
