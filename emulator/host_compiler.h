#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lutsmith/error.h"

namespace lutsmith::emulator {

/// The machine's C++ compiler.
class HostCompiler {
 public:
  /// The one that LUTSMITH_HOST_CXX names, else the first of c++, g++ and clang++ in PATH.
  static Result<HostCompiler> find();

  const std::string& path() const { return path_; }

  /// Runs it with these arguments; its log and temporary files go to `folder`. The error has what it printed
  /// as context.
  Result<void> run(const std::vector<std::string>& arguments, const std::filesystem::path& folder) const;

 private:
  explicit HostCompiler(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace lutsmith::emulator
