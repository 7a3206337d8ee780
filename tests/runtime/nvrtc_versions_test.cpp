// Kernels as they are emitted, through releases of NVRTC from the oldest that is allowed to the newest:
// scripts/fetch-nvrtc-wheels fetches them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "lutsmith/codegen.h"
#include "must.h"
#include "runtime/cubin.h"
#include "runtime/nvrtc.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;
using test::must;

std::vector<std::string> releases() {
  std::istringstream list(NVRTC_RELEASES);
  std::vector<std::string> found;
  for (std::string release; list >> release;) found.push_back(release);
  return found;
}

class NvrtcReleaseTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    folder_ = fs::path(NVRTC_WHEELS) / GetParam();
    if (!fs::is_directory(folder_)) {
      GTEST_SKIP() << "NVRTC " << GetParam() << " is not in " << NVRTC_WHEELS
                   << "; scripts/fetch-nvrtc-wheels brings it";
    }
    NvrtcEnvironment environment{};
    environment.lutsmith_nvrtc = folder_;  // understood as a folder of wheels
    nvrtc_ = must(Nvrtc::open(nvrtc_places(environment)));
  }

  fs::path folder_;
  std::unique_ptr<Nvrtc> nvrtc_;
};

TEST_P(NvrtcReleaseTest, IsTheOneThatWasNamed) {
  const int version = nvrtc_->version();
  EXPECT_EQ(std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10), GetParam());
  EXPECT_TRUE(nvrtc_->library().starts_with(folder_.string())) << nvrtc_->library();
}

// Spills are not looked at: the estimate of registers is for the release that scripts/bootstrap fetches, and
// another may spill a little (12.9 does for 3 bits on sm_120a), which costs time and no more.
TEST_P(NvrtcReleaseTest, CompilesEmittedKernelsOfEveryTargetItKnows) {
  int targets = 0;
  for (const TargetTraits& traits : Target::all()) {
    const Target target = must(Target::parse(traits.name));
    if (!nvrtc_->check_target(target)) {
      EXPECT_LT(nvrtc_->version(), traits.min_nvrtc) << traits.name << " is known to this release";
      continue;
    }
    ++targets;
    const KernelSpec specs[] = {
        {{4, 64, 1000, 1032, DataType::f16, TableKind::scalar}, 1, target},
        {{3, kPerChannel, 4096, 4096, DataType::bf16, TableKind::pair}, 16, target},
    };
    for (const KernelSpec& spec : specs) {
      const Source source = must(render(spec, must(schedules(spec)).front()));
      const Result<CompiledKernel> compiled = nvrtc_->compile(source.text, target, source.kernel_name);
      ASSERT_TRUE(compiled.has_value()) << describe(spec) << ": " << compiled.error().message << "\n"
                                        << compiled.error().context;
      EXPECT_TRUE(check_cubin(compiled->cubin, target, source.kernel_name).has_value()) << describe(spec);
      EXPECT_GT(compiled->registers, 16) << describe(spec) << ": the report of ptxas is not understood";
    }
  }
  EXPECT_GE(targets, 4);
}

INSTANTIATE_TEST_SUITE_P(Releases, NvrtcReleaseTest, testing::ValuesIn(releases()), [](const auto& release) {
  std::string name = release.param;
  std::ranges::replace(name, '.', '_');
  return name;
});

}  // namespace
}  // namespace lutsmith
