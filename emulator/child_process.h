#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lutsmith/error.h"

namespace lutsmith::emulator {

/// How a program ended.
struct ProgramEnd {
  int exit_status = 0;
  int signal = 0;  ///< that ended it; 0: none

  bool success() const { return exit_status == 0 && signal == 0; }
};

/// "exit status 1", "signal 25 (File size limit exceeded)".
std::string describe(const ProgramEnd& end);

/// Runs a program and waits for it: without input, its output in the file `log`, its temporary files in
/// `scratch`. It gets no signal mask of the caller and is the leader of a process group of its own, so that
/// whoever asks for an end (core/scratch.h) ends its helpers too. Error where it cannot be started, and
/// where how it ended cannot be learned: a process that ignores SIGCHLD is not told.
Result<ProgramEnd> run_program(const std::string& path, const std::vector<std::string>& arguments,
                               const std::filesystem::path& log, const std::filesystem::path& scratch);

}  // namespace lutsmith::emulator
