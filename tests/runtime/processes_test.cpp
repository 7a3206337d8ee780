// Many processes, one cache: a kernel is compiled once on a host.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "cache/disk_store.h"
#include "processes.h"
#include "runtime/kernel_provider.h"
#include "synthetic_cubin.h"
#include "temporary_directory.h"

namespace lutsmith {
namespace {

/// Takes its time, and leaves a byte in a file for every compile, whichever process it is in.
class CountingCompiler final : public Compiler {
 public:
  CountingCompiler(std::filesystem::path count, std::chrono::milliseconds time)
      : count_(std::move(count)), time_(time) {}
  const std::string& identity() const override { return identity_; }
  std::string options(Target /*target*/) const override { return {}; }
  Result<CompiledKernel> compile(const std::string& /*source*/, Target target,
                                 const std::string& kernel) const override {
    const int file = open(count_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const bool counted = write(file, "x", 1) == 1;
    close(file);
    std::this_thread::sleep_for(time_);
    if (!counted) return std::unexpected(Error{ErrorCode::io_error, "cannot count", {}});
    return CompiledKernel{.cubin = synthetic_cubin(target, kernel), .log = {}};
  }

 private:
  std::filesystem::path count_;
  std::chrono::milliseconds time_;
  std::string identity_ = "counting 1";
};

class ProcessesTest : public testing::Test {
 protected:
  /// What each process has for itself.
  std::unique_ptr<KernelProvider> provider(std::chrono::milliseconds compile_time) const {
    const SourceGenerator sources{.schedules = [](const KernelSpec&) -> Result<std::vector<Schedule>> {
                                    return std::vector{Schedule{}};
                                  },
                                  .render = [](const KernelSpec& spec, const Schedule&) -> Result<Source> {
                                    return Source{
                                        .text = describe(spec), .kernel_name = "kern", .launch = {}};
                                  }};
    return std::make_unique<KernelProvider>(
        sources, std::make_unique<CountingCompiler>(count_file(), compile_time),
        cache::DiskStore::open(directory_.path() / "cache").value(), [](LogLevel, std::string_view) {});
  }

  static Request request(int number) {
    return {.spec = {.n = 32 * (number + 1), .k = 4096, .target = Target()}, .schedule = {}};
  }

  std::filesystem::path count_file() const { return directory_.path() / "count"; }
  int compiles() const { return static_cast<int>(std::filesystem::file_size(count_file())); }

  TemporaryDirectory directory_;
};

TEST_F(ProcessesTest, SixtyFourProcessesCompileAHundredColdKernelsOnceEach) {
  constexpr int kProcesses = 64;
  constexpr int kKernels = 100;
  Processes processes;
  for (int process = 0; process < kProcesses; ++process) {
    processes.start([&] {
      const auto kernels = provider(std::chrono::milliseconds{200});
      for (int i = 0; i < kKernels; ++i) {
        // Two processes each begin at the same kernel, so that they meet and yet share the work.
        const auto compiled = kernels->compile(request((process / 2 * 3 + i) % kKernels));
        if (!compiled || compiled->artifact->cubin.empty()) return 1;
      }
      return 0;
    });
  }
  EXPECT_EQ(processes.successes(), kProcesses);
  EXPECT_EQ(compiles(), kKernels);
}

TEST_F(ProcessesTest, ProcessKilledWhileItCompilesCostsOneMoreCompile) {
  Processes processes;
  processes.start([&] {
    static_cast<void>(provider(std::chrono::hours{1})->compile(request(0)));
    return 1;
  });
  while (!std::filesystem::exists(count_file())) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  processes.start([&] {
    const auto compiled = provider(std::chrono::milliseconds{1})->compile(request(0));
    return compiled && compiled->origin == Origin::compiled ? 0 : 1;
  });
  processes.kill_first();
  EXPECT_EQ(processes.successes(), 1);
  EXPECT_EQ(compiles(), 2);
  EXPECT_EQ(provider(std::chrono::milliseconds{1})->compile(request(0))->origin, Origin::disk);
}

}  // namespace
}  // namespace lutsmith
