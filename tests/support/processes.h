#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <vector>

namespace lutsmith {

/// Child processes of a test, each running a function and ending with what it returns.
class Processes {
 public:
  Processes() = default;
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;
  ~Processes() {
    for (const pid_t child : children_) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
  }

  /// The test must have no other thread at this time.
  template <class Work>
  void start(Work work) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) _exit(work());
    children_.push_back(child);
  }

  /// Ends the oldest at once, wherever it is.
  void kill_first() {
    kill(children_.front(), SIGKILL);
    waitpid(children_.front(), nullptr, 0);
    children_.erase(children_.begin());
  }

  /// How many ended with 0; waits for all.
  int successes() {
    int count = 0;
    for (const pid_t child : children_) {
      int status = 0;
      waitpid(child, &status, 0);
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) ++count;
    }
    children_.clear();
    return count;
  }

 private:
  std::vector<pid_t> children_;
};

/// A pipe through which processes tell one another that they have come to some point.
class Signal {
 public:
  Signal() { EXPECT_EQ(pipe(ends_), 0); }
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;
  ~Signal() {
    close(ends_[0]);
    close(ends_[1]);
  }

  void give() const {
    const char byte = 0;
    [[maybe_unused]] const ssize_t written = write(ends_[1], &byte, 1);
  }
  void wait() const {
    char byte = 0;
    [[maybe_unused]] const ssize_t got = read(ends_[0], &byte, 1);
  }

 private:
  int ends_[2] = {-1, -1};
};

}  // namespace lutsmith
