// Fault 1 with the real code generator and the real compiler.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "lutsmith/codegen.h"
#include "lutsmith/service.h"
#include "processes.h"
#include "temporary_directory.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;

/// Forty kernels for different shapes; with a schedule, so that each request needs exactly one.
std::vector<KernelSpec> forty_specs() {
  std::vector<KernelSpec> specs;
  for (const int bits : {2, 3, 4}) {
    for (std::int64_t n = 64; n <= 14 * 64; n += 64)
      specs.push_back(
          {.format = {.bits = bits, .n = n, .k = 256}, .m = 1, .target = *Target::parse("sm_90a")});
  }
  specs.resize(40);
  return specs;
}

/// Leaves a byte in a file for each of `count` compiles.
bool tell(const fs::path& file, std::uint64_t count) {
  const std::string bytes(count, 'x');
  const int opened = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const bool told = write(opened, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  close(opened);
  return told;
}

TEST(CompilerProcesses, Case01EightProcessesCompileFortyColdKernelsOnceEach) {
  constexpr std::size_t kProcesses = 8;
  const TemporaryDirectory directory;
  const fs::path count = directory.path() / "count";
  const std::vector<KernelSpec> specs = forty_specs();
  Processes processes;
  for (std::size_t process = 0; process < kProcesses; ++process) {
    processes.start([&] {
      ServiceOptions options;
      options.cache_directory = directory.path() / "cache";
      Result<Service> service = Service::open(options);
      if (!service) return 1;
      for (std::size_t i = 0; i < specs.size(); ++i) {
        // Two processes each begin at the same kernel, so that they meet and yet share the work.
        const KernelSpec& spec = specs[(process / 2 * 10 + i) % specs.size()];
        const auto compiled = service->compile(spec, schedules(spec)->front());
        if (!compiled || compiled->artifact->cubin.empty()) return 1;
      }
      return tell(count, service->statistics().compiles) ? 0 : 1;
    });
  }
  ASSERT_EQ(processes.successes(), static_cast<int>(kProcesses));
  EXPECT_EQ(fs::file_size(count), specs.size());
  std::set<fs::path> entries;
  for (const auto& file : fs::recursive_directory_iterator(directory.path() / "cache")) {
    if (file.path().extension() == ".lutk") entries.insert(file.path().filename());
  }
  EXPECT_EQ(entries.size(), specs.size());
}

}  // namespace
}  // namespace lutsmith
