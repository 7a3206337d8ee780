#include "lutsmith/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "temporary_directory.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

KernelSpec small_spec(std::string_view target = "sm_90a") {
  return {.format = {.n = 1000, .k = 1032}, .m = 1, .target = Target::parse(target).value()};
}

std::vector<fs::path> entries_under(const fs::path& root) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& file : fs::recursive_directory_iterator(root)) {
    if (file.path().extension() == ".lutk") found.push_back(file.path());
  }
  return found;
}

class ServiceTest : public testing::Test {
 protected:
  Service open(ServiceOptions options) {
    options.log = [this](LogLevel level, std::string_view text) {
      if (level == LogLevel::warning) warnings_.emplace_back(text);
    };
    Result<Service> service = Service::open(std::move(options));
    if (!service) {
      ADD_FAILURE() << service.error().message << "\n" << service.error().context;
      std::abort();
    }
    return std::move(*service);
  }
  Service open_with_cache() {
    ServiceOptions options;
    options.cache_directory = root();
    return open(std::move(options));
  }
  fs::path root() const { return directory_.path() / "cache"; }

  TemporaryDirectory directory_;
  std::vector<std::string> warnings_;
};

TEST_F(ServiceTest, CompiledThenMemoryThenDiskInAnotherService) {
  Service first = open_with_cache();
  EXPECT_EQ(first.cache_directory(), root());
  const Result<CompileResult> compiled = first.compile(small_spec());
  ASSERT_TRUE(compiled.has_value()) << compiled.error().message << compiled.error().context;
  EXPECT_EQ(compiled->origin, Origin::compiled);
  EXPECT_GT(compiled->artifact->registers, 0);
  EXPECT_GT(compiled->milliseconds, 0);
  EXPECT_EQ(first.compile(small_spec())->origin, Origin::memory);

  Service second = open_with_cache();
  const Result<CompileResult> stored = second.compile(small_spec());
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ(stored->origin, Origin::disk);
  EXPECT_EQ(stored->artifact->cubin, compiled->artifact->cubin);
  EXPECT_EQ(stored->artifact->key, compiled->artifact->key);
  EXPECT_EQ(stored->artifact->registers, compiled->artifact->registers);
  EXPECT_EQ(stored->choice.schedule, compiled->choice.schedule);
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(ServiceTest, DamagedEntryIsCompiledAnewAndRepaired) {
  const Result<CompileResult> compiled = open_with_cache().compile(small_spec());
  ASSERT_TRUE(compiled.has_value());
  const std::vector<fs::path> files = entries_under(root());
  ASSERT_EQ(files.size(), 1U);
  {
    std::fstream file(files[0], std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(files[0]) / 2));
    file << "damage";
  }
  const Result<CompileResult> again = open_with_cache().compile(small_spec());
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->origin, Origin::compiled);
  EXPECT_EQ(again->artifact->cubin, compiled->artifact->cubin) << "the same source gives the same kernel";
  EXPECT_EQ(warnings_.size(), 1U);
  EXPECT_EQ(open_with_cache().compile(small_spec())->origin, Origin::disk);
}

TEST_F(ServiceTest, UnusableCacheDirectoryIsAWarningAndKernelsStayInMemory) {
  std::ofstream(directory_.path() / "file") << "x";
  ServiceOptions options;
  options.cache_directory = directory_.path() / "file" / "cache";
  Service service = open(std::move(options));
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_THAT(warnings_[0], HasSubstr("memory only"));
  EXPECT_TRUE(service.cache_directory().empty());
  EXPECT_EQ(service.compile(small_spec())->origin, Origin::compiled);
  EXPECT_EQ(service.compile(small_spec())->origin, Origin::memory);
}

TEST_F(ServiceTest, MemoryOnlyTouchesNoFile) {
  ServiceOptions options;
  options.cache_directory = root();
  options.memory_only = true;
  Service service = open(std::move(options));
  EXPECT_EQ(service.compile(small_spec())->origin, Origin::compiled);
  EXPECT_FALSE(fs::exists(root()));
  EXPECT_TRUE(service.cache_directory().empty());
}

TEST_F(ServiceTest, EnvironmentForbidsCompilingUnlessTheProgramSaysOtherwise) {
  setenv("LUTSMITH_COMPILE", "never", /*overwrite=*/1);  // NOLINT(concurrency-mt-unsafe): the only thread
  Service strict = open_with_cache();
  ServiceOptions options;
  options.cache_directory = root();
  options.compile = CompilePolicy::when_needed;
  Service compiling = open(std::move(options));
  setenv("LUTSMITH_COMPILE", "nevr", /*overwrite=*/1);  // NOLINT(concurrency-mt-unsafe)
  Service mistyped = open_with_cache();
  unsetenv("LUTSMITH_COMPILE");  // NOLINT(concurrency-mt-unsafe)

  const Result<CompileResult> refused = strict.compile(small_spec());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::not_found);
  EXPECT_EQ(compiling.compile(small_spec())->origin, Origin::compiled);
  EXPECT_EQ(strict.compile(small_spec())->origin, Origin::disk) << "warmed by now";
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_THAT(warnings_[0], HasSubstr("'nevr' is not known; allowed: when-needed, never"));
  EXPECT_TRUE(mistyped.compile(small_spec("sm_80")).has_value());
}

TEST_F(ServiceTest, SpecWithoutATargetIsForTheGpuAtHandAndWithoutOneItIsAskedFor) {
  Service service = open_with_cache();
  KernelSpec spec = small_spec();
  spec.target = {};
  const Result<Target> native = service.native_target();
  const Result<CompileResult> compiled = service.compile(spec);
  if (native) {
    ASSERT_TRUE(compiled.has_value()) << compiled.error().message;
    spec.target = *native;
    EXPECT_EQ(service.compile(spec)->artifact, compiled->artifact);
  } else {
    ASSERT_FALSE(compiled.has_value());
    EXPECT_THAT(compiled.error().message, HasSubstr("name one, such as sm_90a"));
  }
}

TEST_F(ServiceTest, SameShapeForTwoTargetsGivesTwoKernels) {
  Service service = open_with_cache();
  const Result<CompileResult> hopper = service.compile(small_spec("sm_90a"));
  const Result<CompileResult> ampere = service.compile(small_spec("sm_80"));
  ASSERT_TRUE(hopper.has_value() && ampere.has_value());
  EXPECT_NE(hopper->artifact->key, ampere->artifact->key);
  EXPECT_EQ(ampere->origin, Origin::compiled);
}

TEST_F(ServiceTest, MissingNvrtcIsAnErrorThatNamesThePath) {
  ServiceOptions options;
  options.nvrtc = directory_.path() / "libnvrtc.so.13";
  options.cache_directory = root();
  const Result<Service> service = Service::open(options);
  ASSERT_FALSE(service.has_value());
  EXPECT_EQ(service.error().code, ErrorCode::not_found);
  EXPECT_THAT(service.error().message, HasSubstr(options.nvrtc.string()));
  EXPECT_THAT(service.error().context, HasSubstr(options.nvrtc.string()));
  EXPECT_FALSE(fs::exists(root())) << "nothing is left behind";
}

TEST_F(ServiceTest, RelativeCacheDirectoryDoesNotMoveWithTheProcess) {
  const fs::path before = fs::current_path();
  fs::current_path(directory_.path());
  ServiceOptions options;
  options.cache_directory = "cache";
  Service service = open(std::move(options));
  fs::current_path(before);
  EXPECT_EQ(service.cache_directory(), fs::canonical(directory_.path()) / "cache");
}

}  // namespace
}  // namespace lutsmith
