// A machine without a CUDA toolkit: in a mount namespace that covers the toolkits and the loader's cache, so
// that nothing but the library that was named, and what lies beside it, is found.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "command_line.h"
#include "mounts.h"

namespace lutsmith::tests {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// The compiler of this machine, as doctor finds it before anything is covered.
class BareMachine : public testing::Test {
 protected:
  void SetUp() override {
    // The wheel of CUDA 13.0, whose libnvrtc has no run path, where it was fetched; else what there is.
    CommandLine program;
    const fs::path wheel = fs::path(NVRTC_WHEELS) / "13.0";
    if (fs::is_directory(wheel)) program.set_environment("LUTSMITH_NVRTC", wheel);
    const auto compiler = program.run({"doctor", "--json"}).json()["compiler"];
    ASSERT_TRUE(compiler["ok"].get<bool>()) << compiler;
    library_ = fs::canonical(compiler["library"].get<std::string>());
    builtins_name_ = "libnvrtc-builtins.so." + compiler["version"].get<std::string>();
    builtins_ = fs::canonical(library_.parent_path() / builtins_name_);
    for (const char* folder : {"/lib/x86_64-linux-gnu", "/usr/lib"}) {
      if (fs::exists(fs::path(folder) / builtins_name_)) GTEST_SKIP() << folder << " has " << builtins_name_;
    }
  }

  /// In the namespace: puts the library, and its built-ins unless left out, into `folder`, and covers the
  /// rest.
  bool make_bare(const fs::path& folder, bool with_builtins) const {
    fs::create_directories(folder);
    if (!show(library_, folder / "libnvrtc.so.1")) return false;
    if (with_builtins && !show(builtins_, folder / builtins_name_)) return false;
    for (const auto& entry : fs::directory_iterator("/usr/local")) {
      const bool toolkit = entry.path().filename().string().starts_with("cuda");
      if (toolkit && entry.is_directory() && !entry.is_symlink() && !mount_tmpfs(entry.path(), "size=1m")) {
        return false;
      }
    }
    const fs::path cache = folder / "ld.so.cache";
    std::ofstream(cache) << "";
    if (fs::exists("/etc/ld.so.cache") &&
        mount(cache.c_str(), "/etc/ld.so.cache", nullptr, MS_BIND, nullptr) != 0) {
      return false;
    }
    for (const char* name :
         {"LD_LIBRARY_PATH", "LUTSMITH_NVRTC", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"}) {
      unsetenv(name);  // NOLINT(concurrency-mt-unsafe): a child process of one thread
    }
    return true;
  }

  static void expect_compiles(const CommandLine& program) {
    const Outcome doctor = program.run({"doctor"});
    EXPECT_EQ(doctor.exit_code, 0) << doctor.output << doctor.errors;
    const Outcome compiled =
        program.run({"compile", "--n", "64", "--k", "64", "--m", "1", "--target", "sm_80"});
    EXPECT_EQ(compiled.exit_code, 0) << compiled.errors;
  }

  fs::path library_;
  fs::path builtins_;
  std::string builtins_name_;

 private:
  static bool show(const fs::path& file, const fs::path& at) {
    std::ofstream(at) << "";
    return mount(file.c_str(), at.c_str(), nullptr, MS_BIND, nullptr) == 0;
  }
};

TEST_F(BareMachine, BuiltInsBesideTheLibraryThatWasNamedAreUsed) {
  const TemporaryDirectory root;
  EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
    if (!mount_tmpfs(root.path(), "size=10m") || !make_bare(root.path() / "lib", true)) return false;
    CommandLine program;
    program.set_environment("LUTSMITH_NVRTC", root.path() / "lib/libnvrtc.so.1");
    expect_compiles(program);
    return true;
  });
}

TEST_F(BareMachine, BuiltInsAreFoundThroughALinkToTheLibrary) {
  const TemporaryDirectory root;
  EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
    if (!mount_tmpfs(root.path(), "size=10m") || !make_bare(root.path() / "lib", true)) return false;
    fs::create_symlink("lib/libnvrtc.so.1", root.path() / "compiler.so");
    CommandLine program;
    program.set_environment("LUTSMITH_NVRTC", root.path() / "compiler.so");
    expect_compiles(program);
    return true;
  });
}

TEST_F(BareMachine, CudaHomeThatIsMadeOfWheelsIsEnough) {
  for (const char* folder : {"lib", "nvidia/cu13/lib", "cuda_nvrtc/lib"}) {
    const TemporaryDirectory root;
    EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
      if (!mount_tmpfs(root.path(), "size=10m") || !make_bare(root.path() / folder, true)) return false;
      CommandLine program;
      program.set_environment("CUDA_HOME", root.path());
      expect_compiles(program);
      return true;
    });
  }
}

// Fails as well where the namespace hides nothing, without which the tests above would prove nothing.
TEST_F(BareMachine, DoctorCompilesInEarnestAndNamesTheBuiltInsThatAreMissing) {
  const TemporaryDirectory root;
  EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
    if (!mount_tmpfs(root.path(), "size=10m") || !make_bare(root.path() / "lib", false)) return false;
    CommandLine program;
    program.set_environment("LUTSMITH_NVRTC", root.path() / "lib");
    const Outcome doctor = program.run({"doctor"});
    EXPECT_EQ(doctor.exit_code, 1) << doctor.output;
    const std::string reason =
        fmt::format("there is no {} in {}", builtins_name_, (root.path() / "lib").string());
    EXPECT_THAT(doctor.output, testing::AllOf(HasSubstr("compiler  broken"), HasSubstr(reason)));
    EXPECT_FALSE(program.run({"doctor", "--json"}).json()["compiler"]["ok"]);
    const Outcome compiled =
        program.run({"compile", "--n", "64", "--k", "64", "--m", "1", "--target", "sm_80"});
    EXPECT_EQ(compiled.exit_code, 1);
    EXPECT_THAT(compiled.errors, HasSubstr(reason));
    return true;
  });
}

}  // namespace
}  // namespace lutsmith::tests
