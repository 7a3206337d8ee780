#include "command_line.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
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

std::filesystem::path make_directory() {
  std::string name = (std::filesystem::temp_directory_path() / "lutsmith-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "no temporary directory at " << name;
  return name;
}

}  // namespace

nlohmann::json Outcome::json() const { return nlohmann::json::parse(output, nullptr, false); }

CommandLine::CommandLine() : directory_(make_directory()), own_(make_directory()) {
  set_environment("LUTSMITH_CACHE_DIR", (own_ / "cache").string());
}

CommandLine::~CommandLine() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
  std::filesystem::remove_all(own_, ignored);
}

Outcome CommandLine::run(const std::vector<std::string>& arguments) const {
  std::string command = "env";
  const auto append = [&command](std::string_view before, const std::string& text) {
    command.append(before).append(quoted(text));
  };
  for (const auto& [name, value] : environment_) append(" ", fmt::format("{}={}", name, value));
  append(" ", LUTSMITH_PROGRAM);
  for (const std::string& argument : arguments) append(" ", argument);
  append(" >", own_ / "output");
  append(" 2>", own_ / "errors");
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(own_ / "output"),
          read_file(own_ / "errors")};
}

std::vector<std::string> CommandLine::files() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace lutsmith::tests
