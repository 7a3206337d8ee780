#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "command_line.h"
#include "signal_action.h"
#include "small_checkpoint.h"

namespace lutsmith::tests {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

void pause_briefly() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

/// A started program and how it ended.
class Running {
 public:
  explicit Running(pid_t process) : process_(process) {}
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    if (ended_) return;
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }

  /// Whether `condition` came true before the program ended.
  template <class Condition>
  bool reaches(Condition condition) {
    while (!condition()) {
      if (waitpid(process_, &status_, WNOHANG) == process_) {
        ended_ = true;
        return false;
      }
      pause_briefly();
    }
    return true;
  }
  void send(int signal) const { kill(process_, signal); }
  int status() {
    if (!ended_) waitpid(process_, &status_, 0);
    ended_ = true;
    return status_;
  }

 private:
  pid_t process_;
  bool ended_ = false;
  int status_ = 0;
};

// A zombie that nobody waits for has ended, too.
bool runs(const std::string& process) {
  const std::string stat = read_file("/proc/" + process + "/stat");
  const std::size_t name_end = stat.rfind(") ");
  return name_end != std::string::npos && stat[name_end + 2] != 'Z';
}

/// While it lives, programs that are started leave no core file where a signal (SIGQUIT) would write one.
class NoCoreFiles {
 public:
  NoCoreFiles() {
    getrlimit(RLIMIT_CORE, &before_);
    const rlimit none{.rlim_cur = 0, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_CORE, &none);
  }
  NoCoreFiles(const NoCoreFiles&) = delete;
  NoCoreFiles& operator=(const NoCoreFiles&) = delete;
  ~NoCoreFiles() { setrlimit(RLIMIT_CORE, &before_); }

 private:
  rlimit before_{};
};

class Interruption : public testing::TestWithParam<int> {
 protected:
  Interruption() : action_(GetParam(), SIG_DFL) {
    fs::create_directory(temporary_);
    program_.set_environment("TMPDIR", temporary_);
  }

  void quantize() {
    const auto input = program_.file("model.safetensors");
    write_checkpoint(input, {{"a.weight", {64, 64}, wavy_values(64 * 64)}});
    ASSERT_EQ(program_.run({"quantize", input, "-o", packed_}).exit_code, 0);
  }

  /// A compiler that tells of its helper once that runs, then does `then`.
  void set_compiler(const std::string& then) {
    const auto compiler = program_.file("slow-c++");
    write_file(compiler, "#!/bin/sh\nsleep 100000 &\necho $! >'" + program_.file("helper.new").string() +
                             "'\nmv '" + program_.file("helper.new").string() + "' '" +
                             program_.file("helper").string() + "'\n" + then + "\n");
    fs::permissions(compiler, fs::perms::owner_all);
    program_.set_environment("LUTSMITH_HOST_CXX", compiler);
  }

  CommandLine program_;
  SignalAction action_;
  NoCoreFiles no_core_files_;
  fs::path temporary_ = program_.file("temporary");
  fs::path packed_ = program_.file("packed.safetensors");
};

INSTANTIATE_TEST_SUITE_P(All, Interruption, testing::Values(SIGINT, SIGTERM, SIGHUP, SIGQUIT),
                         [](const auto& instance) { return std::string(sigabbrev_np(instance.param)); });

TEST_P(Interruption, EmulatedRunLeavesNeitherFolderNorCompiler) {
  quantize();
  set_compiler("wait");
  Running running(program_.start({"run", packed_, "--emulate", "--m", "1"}));
  ASSERT_TRUE(running.reaches([&] { return fs::exists(program_.file("helper")); }));
  EXPECT_FALSE(fs::is_empty(temporary_));
  running.send(GetParam());
  const int status = running.status();
  EXPECT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), GetParam());
  EXPECT_TRUE(fs::is_empty(temporary_));
  std::string helper = read_file(program_.file("helper"));
  helper.pop_back();
  while (runs(helper)) pause_briefly();  // killed, and gone as soon as the system comes to it
}

TEST_P(Interruption, ASignalThatIsIgnoredStaysIgnored) {
  quantize();
  set_compiler("kill -KILL $!\nwhile [ ! -e '" + program_.file("go").string() +
               "' ]; do sleep 0.01; done\nexec c++ \"$@\"");
  const SignalAction ignored(GetParam(), SIG_IGN);
  Running running(program_.start({"run", packed_, "--emulate", "--m", "1"}));
  ASSERT_TRUE(running.reaches([&] { return fs::exists(program_.file("helper")); }));
  running.send(GetParam());
  write_file(program_.file("go"), "");
  const int status = running.status();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_P(Interruption, QuantizingLeavesTheWholeFileOrNone) {
  const auto input = program_.file("model.safetensors");
  std::vector<SmallTensor> tensors;
  for (int i = 0; i < 40; ++i) {
    tensors.push_back({"layers." + std::to_string(i) + ".weight", {256, 256}, wavy_values(256 * 256)});
  }
  write_checkpoint(input, tensors);
  Running running(program_.start({"quantize", input, "-o", packed_, "--jobs", "1"}));
  running.reaches([&] { return program_.errors_so_far().contains("[1/"); });
  running.send(GetParam());
  const int status = running.status();
  if (WIFSIGNALED(status)) {
    EXPECT_EQ(WTERMSIG(status), GetParam());
    EXPECT_THAT(program_.files(), testing::ElementsAre("model.safetensors", "temporary"));
  } else {  // it had ended before the signal came
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_THAT(program_.files(),
                testing::ElementsAre("model.safetensors", "packed.safetensors", "temporary"));
  }
}

TEST_P(Interruption, QuantizingShardsLeavesTheWholeFolderOrNone) {
  const fs::path input = program_.file("model");
  fs::create_directory(input);
  std::vector<SmallTensor> tensors;
  nlohmann::json shards = {{"first.weight", "1.safetensors"}};
  for (int i = 0; i < 40; ++i) {
    const std::string name = "layers." + std::to_string(i) + ".weight";
    tensors.push_back({name, {256, 256}, wavy_values(256 * 256)});
    shards[name] = "2.safetensors";
  }
  write_checkpoint(input / "1.safetensors", {{"first.weight", {64, 64}, wavy_values(64 * 64)}});
  write_checkpoint(input / "2.safetensors", tensors);
  write_file(input / "model.safetensors.index.json", nlohmann::json{{"weight_map", shards}}.dump());
  // Beside the output until it is whole, and its first file has a name as soon as that is written.
  const auto first_is_written = [&] {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(program_.directory())) {
      const std::string name = entry.path().filename();
      if (name.starts_with(".") && fs::exists(entry.path() / "1.safetensors", ignored)) return true;
    }
    return false;
  };
  Running running(program_.start({"quantize", input, "-o", program_.file("packed"), "--jobs", "1"}));
  running.reaches(first_is_written);
  running.send(GetParam());
  const int status = running.status();
  if (WIFSIGNALED(status)) {
    EXPECT_EQ(WTERMSIG(status), GetParam());
    EXPECT_THAT(program_.files(), testing::ElementsAre("model", "temporary"));
  } else {  // it had ended before the signal came
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_THAT(program_.files(), testing::ElementsAre("model", "packed", "temporary"));
  }
}

TEST(FileSizeLimit, AFileBeyondItIsAnErrorAndLeavesNothing) {
  const CommandLine program;
  const auto input = program.file("model.safetensors");
  write_checkpoint(input, {{"a.weight", {512, 512}, wavy_values(512 * 512)}});
  const Outcome outcome =
      program.run_in_shell("ulimit -f 16;", {"quantize", input, "-o", program.file("packed.safetensors")});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("packed.safetensors"), HasSubstr("File too large")));
  EXPECT_THAT(program.files(), testing::ElementsAre("model.safetensors"));
}

TEST(ChildSignalIgnored, AFailedCompilerIsAFailure) {
  CommandLine program;
  const auto input = program.file("model.safetensors");
  const auto packed = program.file("packed.safetensors");
  write_checkpoint(input, {{"a.weight", {64, 64}, wavy_values(64 * 64)}});
  ASSERT_EQ(program.run({"quantize", input, "-o", packed}).exit_code, 0);
  const auto run = [&] {
    return program.run_in_shell("env --ignore-signal=CHLD", {"run", packed, "--emulate", "--m", "1"});
  };
  const Outcome whole = run();
  EXPECT_EQ(whole.exit_code, 0) << whole.errors;
  const auto compiler = program.file("failing-c++");
  write_file(compiler, "#!/bin/sh\nexit 3\n");
  fs::permissions(compiler, fs::perms::owner_all);
  program.set_environment("LUTSMITH_HOST_CXX", compiler);
  const Outcome failed = run();
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_THAT(failed.errors, testing::AllOf(HasSubstr("failing-c++"), HasSubstr("exit status 3")));
}

TEST(TemporaryFolder, AnEmptyTmpdirMeansNoneAndAMissingOneIsNamed) {
  CommandLine program;
  const auto input = program.file("model.safetensors");
  const auto packed = program.file("packed.safetensors");
  write_checkpoint(input, {{"a.weight", {64, 64}, wavy_values(64 * 64)}});
  ASSERT_EQ(program.run({"quantize", input, "-o", packed}).exit_code, 0);
  program.set_environment("TMPDIR", "");
  const Outcome empty = program.run({"run", packed, "--emulate", "--m", "1"});
  EXPECT_EQ(empty.exit_code, 0) << empty.errors;
  program.set_environment("TMPDIR", program.file("missing"));
  const Outcome missing = program.run({"run", packed, "--emulate", "--m", "1"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.errors, testing::AllOf(HasSubstr("TMPDIR=" + program.file("missing").string()),
                                             HasSubstr("No such file")));
}

}  // namespace
}  // namespace lutsmith::tests
