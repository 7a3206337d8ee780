#include "runtime/nvrtc.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/cubin.h"
#include "temporary_directory.h"

namespace lutsmith {
namespace {

using testing::HasSubstr;

constexpr const char* kSource = R"(
extern "C" __global__ void __launch_bounds__(128) kern(const float* in, float* out) {
  __shared__ float turned[128];
  turned[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = turned[127 - threadIdx.x];
})";

Target target_named(std::string_view name) { return Target::parse(name).value(); }

/// The compiler of this machine, opened once.
const Nvrtc& nvrtc() {
  static const auto opened = Nvrtc::open(nvrtc_places(NvrtcEnvironment::of_process({})));
  if (!opened) {
    ADD_FAILURE() << opened.error().message << "\n" << opened.error().context;
    std::abort();
  }
  return **opened;
}

std::vector<std::string> patterns_of(const NvrtcEnvironment& environment) {
  std::vector<std::string> patterns;
  for (const NvrtcPlace& place : nvrtc_places(environment)) patterns.push_back(place.pattern);
  return patterns;
}

TEST(NvrtcSearch, EveryKindOfInstallationIsLookedAt) {
  const std::vector<std::string> patterns = patterns_of({.given = {},
                                                         .lutsmith_nvrtc = {},
                                                         .cuda_home = "/opt/a",
                                                         .cuda_path = "/opt/b",
                                                         .virtual_env = "/venv",
                                                         .conda_prefix = "/conda",
                                                         .home = "/home/ann"});
  EXPECT_THAT(
      patterns,
      testing::IsSupersetOf(
          {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "/opt/a/lib64/libnvrtc.so*",
           "/opt/b/targets/x86_64-linux/lib/libnvrtc.so*", "/usr/local/cuda*/lib64/libnvrtc.so*",
           "/venv/lib/python3*/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so*", "/conda/lib/libnvrtc.so*",
           "/home/ann/.local/lib/python3*/site-packages/nvidia/cu[0-9]*/lib/libnvrtc.so*"}));
}

TEST(NvrtcSearch, LibraryThatWasNamedIsTheOnlyOneAndTheOptionWins) {
  EXPECT_EQ(patterns_of({.given = "/a.so",
                         .lutsmith_nvrtc = "/b.so",
                         .cuda_home = "/c",
                         .cuda_path = {},
                         .virtual_env = {},
                         .conda_prefix = {},
                         .home = {}}),
            std::vector<std::string>{"/a.so"});
  EXPECT_EQ(patterns_of({.given = {},
                         .lutsmith_nvrtc = "/b.so",
                         .cuda_home = "/c",
                         .cuda_path = {},
                         .virtual_env = {},
                         .conda_prefix = {},
                         .home = {}}),
            std::vector<std::string>{"/b.so"});
}

TEST(NvrtcSearch, NewestMajorComesFirstAndFoldersMayHoldPatternCharacters) {
  const TemporaryDirectory directory;
  const std::filesystem::path folder = directory.path() / "odd [x]*";
  std::filesystem::create_directory(folder);
  for (const char* name : {"libnvrtc.so", "libnvrtc.so.9", "libnvrtc.so.13", "libnvrtc.alt.so.13"}) {
    std::ofstream(folder / name) << "";
  }
  const auto places = nvrtc_places({.given = folder,
                                    .lutsmith_nvrtc = {},
                                    .cuda_home = {},
                                    .cuda_path = {},
                                    .virtual_env = {},
                                    .conda_prefix = {},
                                    .home = {}});
  ASSERT_FALSE(places.empty());
  EXPECT_EQ(libraries_at(places.front()),
            (std::vector<std::string>{folder / "libnvrtc.so.13", folder / "libnvrtc.so.9",
                                      folder / "libnvrtc.so"}));
}

TEST(NvrtcSearch, WhatWasNamedOnPurposeComesBeforeWhatTheLoaderFinds) {
  const std::vector<std::string> patterns = patterns_of({.given = {},
                                                         .lutsmith_nvrtc = {},
                                                         .cuda_home = "/opt/a",
                                                         .cuda_path = "/opt/b",
                                                         .virtual_env = {},
                                                         .conda_prefix = {},
                                                         .home = {}});
  const auto position = [&](const std::string& pattern) {
    return std::ranges::find(patterns, pattern) - patterns.begin();
  };
  EXPECT_LT(position("/opt/a/lib64/libnvrtc.so*"), position("/opt/b/lib64/libnvrtc.so*"));
  EXPECT_LT(position("/opt/b/lib64/libnvrtc.so*"), position("libnvrtc.so.13"));
  EXPECT_LT(position("libnvrtc.so.13"), position("/usr/local/cuda*/lib64/libnvrtc.so*"));
}

TEST(NvrtcSearch, RootOfAToolkitOrOfWheelsIsUnderstood) {
  for (const char* folder : {"lib64", "lib", "targets/x86_64-linux/lib", "cu13/lib", "cuda_nvrtc/lib",
                             "nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"}) {
    const TemporaryDirectory root;
    const std::filesystem::path library = root.path() / folder / "libnvrtc.so.13";
    std::filesystem::create_directories(library.parent_path());
    std::ofstream(library) << "";
    NvrtcEnvironment demand{};
    demand.lutsmith_nvrtc = root.path();
    NvrtcEnvironment home{};
    home.cuda_home = root.path();
    for (const NvrtcEnvironment& environment : {demand, home}) {
      std::vector<std::string> found;
      for (const NvrtcPlace& place : nvrtc_places(environment)) {
        if (place.by_loader) break;
        std::ranges::copy(libraries_at(place), std::back_inserter(found));
      }
      EXPECT_EQ(found, std::vector<std::string>{library}) << folder;
    }
  }
}

TEST(Nvrtc, WhatWasAskedForIsTheHeadlineOfTheErrorWithItsReason) {
  const TemporaryDirectory directory;
  std::filesystem::create_directories(directory.path() / "empty");
  std::filesystem::create_directories(directory.path() / "bad/lib64");
  std::ofstream(directory.path() / "bad/lib64/libnvrtc.so.13") << "<html>";
  std::ofstream(directory.path() / "page.so") << "<html>";
  const std::string whole = file_bytes(nvrtc().library());
  const std::string cut = directory.write("cut.so", whole.substr(0, whole.size() / 2));
  const std::pair<std::string, std::string> wrong[] = {
      {directory.path() / "missing.so", "no such file"},
      {directory.path() / "page.so", "does not begin like an ELF file"},
      {directory.path() / "empty", "it holds no libnvrtc.so"},
      {directory.path() / "bad", "lib64/libnvrtc.so.13: it is no shared library"},
      {cut, fmt::format("it is cut off: it has {} bytes", whole.size() / 2)},
      {"libc.so.6", "it is not NVRTC"},
      {"liblutsmith-has-no-such.so", "cannot open shared object file"},
  };
  for (const auto& [value, reason] : wrong) {
    NvrtcEnvironment environment{};
    environment.lutsmith_nvrtc = value;
    const auto opened = Nvrtc::open(nvrtc_places(environment));
    ASSERT_FALSE(opened.has_value()) << value;
    EXPECT_THAT(opened.error().message, testing::StartsWith("LUTSMITH_NVRTC is '" + value + "': "));
    EXPECT_THAT(opened.error().message, HasSubstr(reason));
    EXPECT_THAT(opened.error().context, HasSubstr(value));
  }
  const auto given = Nvrtc::open(nvrtc_places(NvrtcEnvironment::of_process("/nonexistent.so")));
  ASSERT_FALSE(given.has_value());
  EXPECT_THAT(given.error().message, testing::StartsWith("ServiceOptions::nvrtc is '/nonexistent.so': "));
}

TEST(Nvrtc, FolderNamedWithoutSuccessIsPassedOverAndTold) {
  const TemporaryDirectory empty;
  NvrtcEnvironment environment{};
  environment.cuda_home = empty.path();
  environment.cuda_path = std::filesystem::path(nvrtc().library()).parent_path().parent_path();
  std::vector<NvrtcPlace> places = nvrtc_places(environment);
  places.push_back({"the machine's", nvrtc().library(), true});
  const auto opened = Nvrtc::open(places);
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  ASSERT_FALSE((*opened)->passed_over().empty());
  EXPECT_THAT((*opened)->passed_over().front(),
              testing::StartsWith("CUDA_HOME is '" + empty.path().string() + "': it holds no libnvrtc.so"));
  for (const std::string& sentence : (*opened)->passed_over()) {
    EXPECT_FALSE(sentence.starts_with((*opened)->origin())) << sentence;
  }
}

// These texts are part of every cache key: a change makes all kernels of a version anew.
TEST(Nvrtc, OptionsLeaveOutWhatAVersionDoesNotKnow) {
  const auto options = [](int version) {
    return fmt::format("{}", fmt::join(nvrtc_options(target_named("sm_80"), version), " "));
  };
  for (const int version : {12000, 12030}) {
    EXPECT_EQ(options(version), "--gpu-architecture=sm_80 -std=c++17 --ptxas-options=-v");
  }
  for (const int version : {12040, 12090}) {
    EXPECT_EQ(options(version), "--gpu-architecture=sm_80 -std=c++17 --minimal --ptxas-options=-v");
  }
  for (const int version : {13000, 13050}) {
    EXPECT_EQ(options(version),
              "--gpu-architecture=sm_80 -std=c++17 --minimal --ptxas-options=-v --no-cache");
  }
}

TEST(Nvrtc, MissingLibraryIsAnErrorThatListsEveryPlace) {
  const TemporaryDirectory directory;
  std::ofstream(directory.path() / "libnvrtc.so") << "no library at all";
  const auto opened = Nvrtc::open({{"the loader's path", "liblutsmith-has-no-such.so", true},
                                   {"CUDA_HOME", "/nonexistent/lib64/libnvrtc.so*", false},
                                   {"a folder", directory.path() / "libnvrtc.so*", false}});
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ErrorCode::not_found);
  EXPECT_THAT(opened.error().message, HasSubstr("LUTSMITH_NVRTC"));
  for (const char* part :
       {"liblutsmith-has-no-such.so", "CUDA_HOME", "/nonexistent/lib64/libnvrtc.so*", "a folder"}) {
    EXPECT_THAT(opened.error().context, HasSubstr(part));
  }
}

TEST(Nvrtc, LibraryThatIsNotNvrtcIsPassedOver) {
  const auto opened = Nvrtc::open({{"the loader's path", "libc.so.6", true}});
  ASSERT_FALSE(opened.has_value());
  EXPECT_THAT(opened.error().context, HasSubstr("it is not NVRTC"));
}

TEST(Nvrtc, TooOldForATargetNamesBothVersions) {
  for (const TargetTraits& traits : Target::all()) {
    const Target target = target_named(traits.name);
    EXPECT_TRUE(check_target_supported(target, traits.min_nvrtc, {}).has_value()) << traits.name;
    const Result<void> old = check_target_supported(target, traits.min_nvrtc - 10, {});
    ASSERT_FALSE(old.has_value()) << traits.name;
    EXPECT_EQ(old.error().code, ErrorCode::unsupported);
    EXPECT_THAT(old.error().message, HasSubstr(std::string(traits.name)));
  }
  const Result<void> blackwell = check_target_supported(target_named("sm_100a"), 12040, {});
  ASSERT_FALSE(blackwell.has_value());
  EXPECT_THAT(blackwell.error().message, HasSubstr("12.8"));
  EXPECT_THAT(blackwell.error().message, HasSubstr("12.4"));
}

TEST(Nvrtc, TargetThatTheCompilerDoesNotListIsRefused) {
  EXPECT_TRUE(check_target_supported(target_named("sm_90a"), 13000, {80, 90}).has_value());
  EXPECT_FALSE(check_target_supported(target_named("sm_90a"), 13000, {80, 100}).has_value());
}

TEST(Nvrtc, IdentityNamesTheBuild) {
  EXPECT_THAT(nvrtc().identity(),
              testing::MatchesRegex("nvrtc [0-9]+\\.[0-9]+ (build-id|sha256) [0-9a-f]{16,64}"));
  EXPECT_TRUE(std::filesystem::exists(nvrtc().library())) << nvrtc().library();
}

TEST(Nvrtc, CompiledKernelComesWithPlausibleFactsForEveryTarget) {
  for (const TargetTraits& traits : Target::all()) {
    const Target target = target_named(traits.name);
    const Result<CompiledKernel> compiled = nvrtc().compile(kSource, target, "kern");
    ASSERT_TRUE(compiled.has_value()) << compiled.error().message << compiled.error().context;
    EXPECT_GT(compiled->registers, 4) << traits.name;
    EXPECT_LE(compiled->registers, 255) << traits.name;
    EXPECT_EQ(compiled->static_shared_bytes, 512) << traits.name;
    EXPECT_EQ(compiled->spill_bytes, 0) << traits.name;
    EXPECT_TRUE(check_cubin(compiled->cubin, target, "kern").has_value()) << traits.name;
  }
}

TEST(Nvrtc, SpillsAreSeen) {
  const Result<CompiledKernel> compiled = nvrtc().compile(R"(
extern "C" __global__ void __launch_bounds__(1024, 2) kern(const float* in, float* out) {
  float value[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) value[i] = in[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 64; ++i) out[i * 1024 + threadIdx.x] = value[63 - i] + value[i] * value[(i * 7) % 64];
})",
                                                          target_named("sm_80"), "kern");
  ASSERT_TRUE(compiled.has_value()) << compiled.error().context;
  EXPECT_GT(compiled->spill_bytes, 0);
  EXPECT_LE(compiled->registers, 32);
}

TEST(Nvrtc, CompileErrorCarriesTheCompilersLog) {
  const Result<CompiledKernel> compiled = nvrtc().compile(
      "extern \"C\" __global__ void kern() { undeclared = 1; }", target_named("sm_80"), "kern");
  ASSERT_FALSE(compiled.has_value());
  EXPECT_EQ(compiled.error().code, ErrorCode::compilation_failed);
  EXPECT_THAT(compiled.error().context, HasSubstr("undeclared"));
}

TEST(Nvrtc, CubinOfASourceWithoutTheKernelIsToldApart) {
  const Target target = target_named("sm_80");
  const Result<CompiledKernel> compiled =
      nvrtc().compile("extern \"C\" __global__ void other() {}", target, "kern");
  ASSERT_TRUE(compiled.has_value()) << compiled.error().message;
  EXPECT_TRUE(check_cubin(compiled->cubin, target, "other").has_value());
  const Result<void> refused = check_cubin(compiled->cubin, target, "kern");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::corrupt_data);
}

}  // namespace
}  // namespace lutsmith
