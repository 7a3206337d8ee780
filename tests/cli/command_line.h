#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "temporary_directory.h"

namespace lutsmith::tests {

/// What a call of the program left behind.
struct Outcome {
  int exit_code = -1;
  std::string output;  ///< standard output
  std::string errors;  ///< standard error

  /// Standard output as JSON; a discarded value where it is none or more than one document.
  nlohmann::json json() const;
};

/// Calls of the program with a directory and a kernel cache of their own. Of the caller's settings of caches
/// none counts.
class CommandLine {
 public:
  CommandLine();

  Outcome run(const std::vector<std::string>& arguments) const;
  /// The same with redirections of a shell behind the usual ones, such as "2>&-".
  Outcome run_redirected(const std::string& redirections, const std::vector<std::string>& arguments) const;
  /// The same as a user to whom permissions mean something: nobody, where the tests run as root.
  Outcome run_unprivileged(const std::vector<std::string>& arguments) const;

  /// The same with words of a shell before it, such as "ulimit -f 16;".
  Outcome run_in_shell(const std::string& before, const std::vector<std::string>& arguments) const;
  /// A process that runs the program and goes on while the test does; it is the test's to wait for.
  pid_t start(const std::vector<std::string>& arguments) const;

  /// What such a process has written to standard error.
  std::string errors_so_far() const;

  /// Set for all later calls.
  void set_environment(const std::string& name, const std::string& value) { environment_[name] = value; }

  const std::filesystem::path& directory() const { return directory_.path(); }
  std::filesystem::path file(const std::string& name) const { return directory() / name; }
  /// The kernel cache, unless LUTSMITH_CACHE_DIR was set to another.
  std::filesystem::path cache() const { return own_.path() / "cache"; }
  /// Names in the directory, without those this class put there.
  std::vector<std::string> files() const { return directory_.names(); }

 private:
  std::string words(std::string command, const std::vector<std::string>& arguments) const;
  Outcome run_after(std::string command, const std::vector<std::string>& arguments,
                    const std::string& redirections = {}) const;

  TemporaryDirectory directory_;
  TemporaryDirectory own_;  // captured output and the cache
  std::map<std::string, std::string> environment_;
};

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace lutsmith::tests
