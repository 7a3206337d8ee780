#include "command_line.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>

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

CommandLine::CommandLine() { set_environment("LUTSMITH_CACHE_DIR", (own_.path() / "cache").string()); }

Outcome CommandLine::run(const std::vector<std::string>& arguments) const {
  std::string command = "env";
  const auto append = [&command](std::string_view before, const std::string& text) {
    command.append(before).append(quoted(text));
  };
  for (const auto& [name, value] : environment_) append(" ", fmt::format("{}={}", name, value));
  append(" ", LUTSMITH_PROGRAM);
  for (const std::string& argument : arguments) append(" ", argument);
  append(" >", own_.path() / "output");
  append(" 2>", own_.path() / "errors");
  const int status = std::system(command.c_str());
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
