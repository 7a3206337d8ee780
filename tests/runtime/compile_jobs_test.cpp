#include "runtime/compile_jobs.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "temporary_directory.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMebibyte = 1U << 20U;

class CompileJobsTest : public testing::Test {
 protected:
  void write(const fs::path& path, const std::string& text) {
    fs::create_directories((directory_.path() / path).parent_path());
    std::ofstream(directory_.path() / path) << text;
  }
  CompileResources resources() const {
    return compile_resources(directory_.path() / "proc", directory_.path() / "groups");
  }

  TemporaryDirectory directory_;
};

TEST(CompileJobs, FollowTheScarcerOfCoresAndMemory) {
  EXPECT_EQ(compile_jobs({.cores = 8, .memory = 100 * kCompileBytes}), 8U);
  EXPECT_EQ(compile_jobs({.cores = 64, .memory = 5 * kCompileBytes + 1}), 5U);
  EXPECT_EQ(compile_jobs({.cores = 64, .memory = 0}), 1U) << "never none";
  EXPECT_EQ(compile_jobs({.cores = 0, .memory = 100 * kCompileBytes}), 1U);
}

TEST(CompileJobs, ThisProcessHasCoresAndMemory) {
  const CompileResources here = compile_resources();
  EXPECT_GE(here.cores, 1U);
  EXPECT_GE(here.memory, kMebibyte);
  EXPECT_LT(here.memory, std::uint64_t{1} << 60U);
}

TEST_F(CompileJobsTest, MachineWithoutLimitsGivesItsAvailableMemory) {
  write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 4096 kB\n");
  EXPECT_EQ(resources().memory, 4 * kMebibyte);
}

TEST_F(CompileJobsTest, ContainersLimitCountsWithoutTheFilesItCanDrop) {
  write("proc/meminfo", "MemAvailable: 99999999 kB\n");
  write("proc/self/cgroup", "0::/pod/container\n");
  write("groups/pod/memory.max", "max\n");
  write("groups/pod/container/memory.max", std::to_string(500 * kMebibyte));
  write("groups/pod/container/memory.current", std::to_string(300 * kMebibyte));
  write("groups/pod/container/memory.stat",
        "anon 1\ninactive_file " + std::to_string(100 * kMebibyte) + "\n");
  EXPECT_EQ(resources().memory, 300 * kMebibyte);
}

TEST_F(CompileJobsTest, LimitOfAGroupAboveCountsToo) {
  write("proc/self/cgroup", "0::/pod/container\n");
  write("groups/pod/memory.max", std::to_string(200 * kMebibyte));
  write("groups/pod/memory.current", std::to_string(150 * kMebibyte));
  write("groups/pod/container/memory.max", "max\n");
  EXPECT_EQ(resources().memory, 50 * kMebibyte);
}

TEST_F(CompileJobsTest, GroupOverItsLimitLeavesNothingRatherThanAllThereIs) {
  write("proc/self/cgroup", "0::/pod\n");
  write("groups/pod/memory.max", "1000");
  write("groups/pod/memory.current", "2000");
  EXPECT_EQ(resources().memory, 0U);
}

TEST_F(CompileJobsTest, LimitsOfVersionOneCount) {
  write("proc/self/cgroup", "12:cpu,cpuacct:/job\n11:memory:/job\n");
  write("groups/memory/job/memory.limit_in_bytes", std::to_string(64 * kMebibyte));
  write("groups/memory/job/memory.usage_in_bytes", std::to_string(14 * kMebibyte));
  EXPECT_EQ(resources().memory, 50 * kMebibyte);
}

TEST_F(CompileJobsTest, QuotaOfProcessorTimeLimitsTheCores) {
  write("proc/self/cgroup", "0::/pod\n");
  write("groups/pod/cpu.max", "50000 100000\n");
  EXPECT_EQ(resources().cores, 1U);
}

TEST_F(CompileJobsTest, NonsenseInTheseFilesIsNoLimit) {
  write("proc/self/cgroup", "nonsense\n0::/pod\n");
  write("groups/pod/memory.max", "lots");
  write("groups/pod/cpu.max", "lots");
  EXPECT_GE(resources().memory, kMebibyte);
  EXPECT_GE(resources().cores, 1U);
}

}  // namespace
}  // namespace lutsmith
