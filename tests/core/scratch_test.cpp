#include "core/scratch.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "temporary_directory.h"

namespace lutsmith::core {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAreArray;

Scratch registered_file(const std::filesystem::path& path) {
  const ScratchLock lock;
  return Scratch::file(lock, path);
}

/// The exit status of a forked copy that does `work`.
template <class Work>
int in_copy(const Work& work) {
  const pid_t copy = ::fork();
  if (copy == 0) {
    work();
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(copy, &status, 0);
  return status;
}

TEST(Scratch, WhatIsRegisteredIsRemovedAndNothingElse) {
  const TemporaryDirectory directory;
  const Scratch file = registered_file(directory.write("scratch", "x"));
  directory.write("other", "x");
  std::filesystem::create_directories(directory.path() / "folder" / "inner");
  directory.write("folder/inner/file", "x");
  Scratch folder;
  {
    const ScratchLock lock;
    folder = Scratch::folder(lock, directory.path() / "folder");
  }
  static_cast<void>(remove_scratch());
  EXPECT_THAT(directory.names(), ElementsAre("other"));
}

TEST(Scratch, AFileIsNotTakenForAFolder) {
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory.path() / "folder");
  directory.write("folder/file", "x");
  const Scratch file = registered_file(directory.path() / "folder");
  static_cast<void>(remove_scratch());
  EXPECT_TRUE(std::filesystem::exists(directory.path() / "folder" / "file"));
}

TEST(Scratch, WhatIsForgottenStays) {
  const TemporaryDirectory directory;
  {
    const Scratch ended = registered_file(directory.write("1", "x"));
  }
  Scratch finished = registered_file(directory.write("2", "x"));
  {
    const ScratchLock lock;
    finished.forget(lock);
  }
  EXPECT_FALSE(finished.owned());
  Scratch replaced = registered_file(directory.write("3", "x"));
  replaced = registered_file(directory.write("4", "x"));
  static_cast<void>(remove_scratch());
  EXPECT_THAT(directory.names(), ElementsAre("1", "2", "3"));
}

TEST(Scratch, AMovedRegistrationIsStillOne) {
  const TemporaryDirectory directory;
  Scratch first = registered_file(directory.write("file", "x"));
  const Scratch second = std::move(first);
  EXPECT_TRUE(second.owned());
  static_cast<void>(remove_scratch());
  EXPECT_THAT(directory.names(), IsEmpty());
}

TEST(Scratch, AnotherWorkingDirectoryChangesNothing) {
  const TemporaryDirectory directory;
  const auto before = std::filesystem::current_path();
  directory.write("file", "x");
  std::filesystem::current_path(directory.path());
  const Scratch file = registered_file("file");
  std::filesystem::current_path(before);
  static_cast<void>(remove_scratch());
  EXPECT_THAT(directory.names(), IsEmpty());
}

TEST(Scratch, NothingIsRegisteredAfterTheRemovalUntilItsLockIsGone) {
  std::atomic<bool> registered = false;
  std::thread other;
  {
    const ScratchLock removed = remove_scratch();
    other = std::thread([&] {
      const Scratch late = registered_file("/nonexistent/file");
      registered = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(registered);
  }
  other.join();
  EXPECT_TRUE(registered);
}

std::string numbered(std::size_t thread, std::size_t file) { return fmt::format("{}-{}", thread, file); }

TEST(Scratch, ManyThreadsRegisterAndForgetAtATime) {
  const TemporaryDirectory directory;
  std::vector<std::string> forgotten;
  std::array<std::vector<Scratch>, 8> kept;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    for (std::size_t j = 0; j < 100; j += 2) forgotten.push_back(numbered(i, j));
  }
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    threads.emplace_back([&, i] {
      for (std::size_t j = 0; j < 100; ++j) {
        Scratch file = registered_file(directory.write(numbered(i, j), "x"));
        if (j % 2 != 0) kept.at(i).push_back(std::move(file));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(directory.names().size(), 800U);
  static_cast<void>(remove_scratch());
  EXPECT_THAT(directory.names(), UnorderedElementsAreArray(forgotten));
}

TEST(Scratch, ChildrenOfAChildEndWithIt) {
  int ends[2] = {};
  ASSERT_EQ(::pipe(ends), 0);
  Scratch registration;
  pid_t leader = 0;
  {
    const ScratchLock lock;
    leader = ::fork();
    if (leader == 0) {
      ::setpgid(0, 0);
      if (::fork() == 0 && ::write(ends[1], "x", 1) != 1) ::_exit(1);
      while (true) ::pause();
    }
    ::setpgid(leader, leader);
    registration = Scratch::process_group(lock, leader);
  }
  ::close(ends[1]);
  char byte = 0;
  ASSERT_EQ(::read(ends[0], &byte, 1), 1) << "the child's child does not run";
  static_cast<void>(remove_scratch());
  // The end of the file comes when the last process that could write is gone.
  EXPECT_EQ(::read(ends[0], &byte, 1), 0);
  ::close(ends[0]);
  int status = 0;
  EXPECT_EQ(::waitpid(leader, &status, 0), leader);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(Scratch, AForkedCopyLeavesWhatIsItsOriginals) {
  const TemporaryDirectory directory;
  Scratch file = registered_file(directory.write("file", "x"));
  const int status = in_copy([&] {
    if (file.owned()) ::_exit(1);
    static_cast<void>(remove_scratch());
    file = Scratch();
  });
  EXPECT_EQ(status, 0);
  EXPECT_THAT(directory.names(), ElementsAre("file"));
  EXPECT_TRUE(file.owned());
}

TEST(Scratch, AForkedCopyRemovesItsOwnThoughTheOriginalsLockWasTaken) {
  const TemporaryDirectory directory;
  const auto path = directory.write("file", "x");
  const ScratchLock held;
  EXPECT_EQ(in_copy([&] {
              const Scratch own = registered_file(path);
              static_cast<void>(remove_scratch());
            }),
            0);
  EXPECT_THAT(directory.names(), IsEmpty());
}

}  // namespace
}  // namespace lutsmith::core
