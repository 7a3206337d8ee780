#include "command_line.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

namespace lutsmith::tests {
namespace {

// As one word for the shell.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char character : text) {
    if (character == '\'') {
      result += "'\\''";
    } else {
      result += character;
    }
  }
  result += '\'';
  return result;
}

}  // namespace

nlohmann::json Outcome::json() const { return nlohmann::json::parse(output, nullptr, false); }

CommandLine::CommandLine() { set_environment("LUTSMITH_CACHE_DIR", cache()); }

Outcome CommandLine::run(const std::vector<std::string>& arguments) const {
  return run_after("env", arguments);
}

Outcome CommandLine::run_unprivileged(const std::vector<std::string>& arguments) const {
  const bool root = geteuid() == 0;
  return run_after(root ? "setpriv --reuid=65534 --regid=65534 --clear-groups env" : "env", arguments);
}

Outcome CommandLine::run_redirected(const std::string& redirections,
                                    const std::vector<std::string>& arguments) const {
  return run_after("env", arguments, redirections);
}

Outcome CommandLine::run_in_shell(const std::string& before,
                                  const std::vector<std::string>& arguments) const {
  return run_after(before + " env", arguments);
}

std::string CommandLine::errors_so_far() const { return read_file(own_.path() / "errors"); }

pid_t CommandLine::start(const std::vector<std::string>& arguments) const {
  const std::string command = "exec " + words("env", arguments);
  const pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  return child;
}

std::string CommandLine::words(std::string command, const std::vector<std::string>& arguments) const {
  for (const char* name : {"LUTSMITH_CACHE_PATH", "LUTSMITH_CACHE_MAX_BYTES", "LUTSMITH_CACHE_MAX_ENTRIES",
                           "LUTSMITH_COMPILE", "LUTSMITH_REMOTE_CACHE", "LUTSMITH_REMOTE_CACHE_MODE",
                           "LUTSMITH_REMOTE_CACHE_TOKEN", "LUTSMITH_RECORD", "LUTSMITH_TUNING",
                           "LUTSMITH_TUNING_FILE", "LUTSMITH_TUNING_MISSING", "LUTSMITH_GPU"}) {
    command += std::string(" -u ") + name;
  }
  command += " LUTSMITH_REMOTE_CACHE_CONNECT_MS=60000";  // the machine may be busy
  const auto append = [&command](std::string_view before, const std::string& text) {
    command.append(before).append(quoted(text));
  };
  for (const auto& [name, value] : environment_) append(" ", fmt::format("{}={}", name, value));
  append(" ", LUTSMITH_PROGRAM);
  for (const std::string& argument : arguments) append(" ", argument);
  append(" >", own_.path() / "output");
  append(" 2>", own_.path() / "errors");
  return command;
}

Outcome CommandLine::run_after(std::string command, const std::vector<std::string>& arguments,
                               const std::string& redirections) const {
  const int status = std::system((words(std::move(command), arguments) + " " + redirections).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(own_.path() / "output"),
          read_file(own_.path() / "errors")};
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace lutsmith::tests
