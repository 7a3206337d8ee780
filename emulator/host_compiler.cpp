#include "emulator/host_compiler.h"

#include <fmt/format.h>
#include <llvm/Support/FileSystem.h>
#include <llvm/Support/Program.h>

#include <fstream>
#include <iterator>
#include <string>

#include "core/environment.h"
#include "emulator/child_process.h"

namespace lutsmith::emulator {
namespace {

constexpr const char* kVariable = "LUTSMITH_HOST_CXX";

std::string text_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

Result<HostCompiler> HostCompiler::find() {
  const std::string wanted = core::environment_variable(kVariable);
  if (!wanted.empty()) {
    const auto path = llvm::sys::findProgramByName(wanted);
    if (path && llvm::sys::fs::can_execute(*path)) return HostCompiler(*path);
    return std::unexpected(
        Error{ErrorCode::not_found,
              fmt::format("{} is '{}', which is no program; correct or unset it", kVariable, wanted),
              {}});
  }
  for (const char* const name : {"c++", "g++", "clang++"}) {
    if (const auto path = llvm::sys::findProgramByName(name)) return HostCompiler(*path);
  }
  return std::unexpected(Error{
      ErrorCode::not_found,
      fmt::format(
          "no C++ compiler found: PATH has no c++, g++ or clang++; install one (Debian: g++) or name it "
          "in {}",
          kVariable),
      {}});
}

Result<void> HostCompiler::run(const std::vector<std::string>& arguments,
                               const std::filesystem::path& folder) const {
  const std::filesystem::path log = folder / "log";
  const auto end = run_program(path_, arguments, log, folder);
  if (!end) return std::unexpected(end.error());
  if (end->success()) return {};
  return std::unexpected(Error{ErrorCode::compilation_failed,
                               fmt::format("{} failed with {}", path_, describe(*end)), text_of(log)});
}

}  // namespace lutsmith::emulator
