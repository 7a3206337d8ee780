// Faults 10 to 16: what file systems and those who tidy them up do.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <random>
#include <thread>

#include "cache/places.h"
#include "cache/stores/atomic_file.h"
#include "cache/stores/disk_pruning.h"
#include "cache/stores/disk_store.h"
#include "mounts.h"
#include "processes.h"
#include "stack.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

using FileSystemFaults = FaultTest;

TEST_F(FileSystemFaults, Case10FullDiskIsToldOnceAndKernelsStayInMemory) {
  for (const char* size : {"size=64k", "size=10m,nr_inodes=8"}) {
    EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
      if (!mount_tmpfs(root(), size)) return false;
      const auto kernels = provider();
      for (int i = 0; i < 100; ++i) EXPECT_TRUE(is_right(*kernels, i)) << i;
      EXPECT_EQ(kernels->statistics().compiles, 100U);
      for (int i = 0; i < 100; ++i) EXPECT_EQ(kernels->compile(request(i))->origin, Origin::memory);
      EXPECT_EQ(warnings().size(), 1U) << "once";
      EXPECT_THAT(warnings().at(0), HasSubstr("No space left on device"));
      EXPECT_THAT(files(".tmp."), IsEmpty());
      // What fitted is good.
      const auto later = provider({.compiler = "stand-in 1"});
      for (int i = 0; i < 100; ++i) EXPECT_TRUE(is_right(*later, i)) << i;
      EXPECT_EQ(later->statistics().repairs, 0U);
      EXPECT_GT(later->statistics().disk_hits, 0U);
      return true;
    });
  }
}

TEST_F(FileSystemFaults, Case11ReadOnlyDirectoryGivesItsHitsAndMissesStayInMemory) {
  EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
    if (!mount_tmpfs(root(), "size=10m")) return false;
    EXPECT_TRUE(is_right(*provider(), 0));
    if (!remount_read_only(root())) return false;
    const auto kernels = provider();
    EXPECT_EQ(kernels->compile(request(0))->origin, Origin::disk);
    for (int i = 1; i < 5; ++i) EXPECT_TRUE(is_right(*kernels, i));
    EXPECT_EQ(kernels->compile(request(1))->origin, Origin::memory);
    EXPECT_EQ(warnings().size(), 1U) << "once";
    EXPECT_THAT(warnings().at(0), HasSubstr("Read-only file system"));
    return true;
  });
}

TEST_F(FileSystemFaults, Case11DamagedEntryInAReadOnlyDirectoryCostsACompile) {
  EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
    if (!mount_tmpfs(root(), "size=10m")) return false;
    EXPECT_TRUE(is_right(*provider(), 0));
    for (const fs::path& file : files(".lutk")) fs::resize_file(file, 100);
    if (!remount_read_only(root())) return false;
    EXPECT_TRUE(is_right(*provider(), 0));
    return true;
  });
}

TEST_F(FileSystemFaults, Case12UserWithoutNameOrHomeGetsADirectoryByNumber) {
  cache::PlacesEnvironment nobody;
  nobody.user = 4242;
  EXPECT_THAT(cache::places(nobody).own, testing::ElementsAre("/var/tmp/lutsmith-4242"));
}

TEST_F(FileSystemFaults, Case12WithoutAnyDirectoryKernelsStayInMemory) {
  std::ofstream(directory_.path() / "file") << "x";
  StackOptions options;
  options.service.cache_directory = directory_.path() / "file" / "cache";
  const auto kernels = provider(options);
  EXPECT_TRUE(is_right(*kernels, 0));
  EXPECT_EQ(kernels->compile(request(0))->origin, Origin::memory);
  ASSERT_EQ(warnings().size(), 1U);
  EXPECT_THAT(warnings().at(0), HasSubstr("memory only"));
}

TEST_F(FileSystemFaults, Case13NothingInTheCacheIsEverExecuted) {
  EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
    const fs::path tmp = directory_.path() / "tmp";
    if (!mount_tmpfs(root(), "size=10m", MS_NOEXEC) || !mount_tmpfs(tmp, "size=10m", MS_NOEXEC)) return false;
    setenv("TMPDIR", tmp.c_str(), /*overwrite=*/1);  // NOLINT(concurrency-mt-unsafe): the only thread
    // The real compiler and cache, since a stand-in would execute nothing anyway.
    ServiceOptions options;
    options.cache_directory = root();
    for (const Origin expected : {Origin::compiled, Origin::disk}) {
      Result<Service> service = Service::open(options);
      const auto compiled =
          service->compile({.format = {.n = 64, .k = 128}, .m = 1, .target = *Target::parse("sm_90a")});
      EXPECT_TRUE(compiled.has_value());
      if (compiled) {
        EXPECT_EQ(compiled->origin, expected);
      }
    }
    return true;
  });
}

TEST_F(FileSystemFaults, Case14GrowthIsBoundedAndForeignFilesAreLeftAlone) {
  fs::create_directories(root() / "v1" / "ab");
  fs::permissions(root(), fs::perms::owner_all);
  std::ofstream(root() / "v1" / "ab" / "thesis.txt") << "mine";
  StackOptions options;
  options.service.cache_limits = CacheLimits{.bytes = 1U << 20U, .entries = 32};
  const auto kernels = provider(options);
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(is_right(*kernels, i));
  ASSERT_TRUE(kernels->flush(std::chrono::minutes(1)));
  EXPECT_LE(files(".lutk").size(), 32U + 1) << "what was put while the last pruning ran";
  EXPECT_GE(files(".lutk").size(), 20U);
  EXPECT_GE(kernels->statistics().entries_removed, 250U);
  EXPECT_TRUE(fs::exists(root() / "v1" / "ab" / "thesis.txt"));
}

TEST_F(FileSystemFaults, Case15CleanerThatDeletesUnderUsCostsCompilesOnly) {
  constexpr int kProcesses = 16;
  constexpr int kKernels = 30;
  const Signal done;
  Processes processes;
  for (int process = 0; process < kProcesses; ++process) {
    processes.start([&] {
      for (int round = 0; round < 5; ++round) {
        const auto kernels = provider();
        for (int i = 0; i < kKernels; ++i) {
          if (!is_right(*kernels, i)) return 1;
        }
      }
      return 0;
    });
  }
  const pid_t cleaner = fork();
  if (cleaner == 0) {
    std::mt19937 random(15);
    std::error_code ignored;
    while (true) {
      for (const fs::path& file : files("")) {
        if (random() % 3 == 0) fs::remove_all(file, ignored);  // folders too
      }
      if (random() % 20 == 0) fs::remove_all(root(), ignored);
    }
  }
  EXPECT_EQ(processes.successes(), kProcesses);
  kill(cleaner, SIGKILL);
  waitpid(cleaner, nullptr, 0);
}

TEST_F(FileSystemFaults, Case16TemporaryFilesOfTheDeadAreSweptAndThoseOfTheLivingKept) {
  // A writer that dies between its last byte and the rename.
  const pid_t writer = fork();
  if (writer == 0) {
    const auto store = cache::DiskStore::open(root());
    const cache::Key key = cache::Key::of({.source = "a", .options = {}, .compiler = {}, .target = {}});
    const std::string shard = (*store)->path_of(key).parent_path();
    fs::create_directories(shard);
    const core::Descriptor folder(open(shard.c_str(), O_RDONLY | O_DIRECTORY));
    auto file = cache::AtomicFile::create(folder, (*store)->path_of(key).filename(), shard);
    static_cast<void>(file->write(std::as_bytes(std::span("half"))));
    raise(SIGKILL);
  }
  waitpid(writer, nullptr, 0);
  const auto left = files(".tmp.");
  ASSERT_EQ(left.size(), 1U);
  ASSERT_TRUE(cache::prune_directory(root(), {}).has_value());
  EXPECT_EQ(files(".tmp."), left) << "it might be alive";
  const timespec old[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1, .tv_nsec = 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, left[0].c_str(), old, 0), 0);
  const auto kernels = provider();
  ASSERT_TRUE(is_right(*kernels, 0)) << "the first put looks the directory over";
  ASSERT_TRUE(kernels->flush(std::chrono::minutes(1)));
  EXPECT_THAT(files(".tmp."), IsEmpty());
}

}  // namespace
}  // namespace lutsmith
