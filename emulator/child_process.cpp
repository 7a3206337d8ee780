#include "emulator/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <system_error>

#include "core/scratch.h"

namespace lutsmith::emulator {
namespace {

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> environment(const std::filesystem::path& temporary) {
  constexpr std::string_view kName = "TMPDIR=";
  std::vector<std::string> result{std::string(kName) + temporary.string()};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with(kName)) result.emplace_back(*variable);
  }
  return result;
}

/// Where the program's standard streams lead.
class Redirections {
 public:
  explicit Redirections(const std::string& log) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                     0666);
    posix_spawn_file_actions_adddup2(&actions_, STDOUT_FILENO, STDERR_FILENO);
  }
  Redirections(const Redirections&) = delete;
  Redirections& operator=(const Redirections&) = delete;
  ~Redirections() { posix_spawn_file_actions_destroy(&actions_); }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

/// Signals as a program expects them, and a process group of its own.
class Attributes {
 public:
  Attributes() {
    posix_spawnattr_init(&attributes_);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes_, &signals);
    // Ignored by many a caller for itself alone.
    sigaddset(&signals, SIGPIPE);
    sigaddset(&signals, SIGXFSZ);
    sigaddset(&signals, SIGCHLD);
    posix_spawnattr_setsigdefault(&attributes_, &signals);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  ~Attributes() { posix_spawnattr_destroy(&attributes_); }
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_{};
};

Result<ProgramEnd> wait_for(const std::string& path, pid_t child, core::Scratch registered) {
  siginfo_t ignored;
  while (waitid(P_PID, static_cast<id_t>(child), &ignored, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
  }
  registered = core::Scratch();  // before its number can become another's
  int status = 0;
  pid_t ended = 0;
  do {
    ended = waitpid(child, &status, 0);
  } while (ended == -1 && errno == EINTR);
  if (ended == -1) {  // a caller that ignores SIGCHLD, or waits for children that are not its own
    return std::unexpected(Error{
        ErrorCode::io_error,
        fmt::format("cannot learn how {} ended: {}; leave SIGCHLD at its default action and wait for no "
                    "child but your own",
                    path, std::generic_category().message(errno)),
        {}});
  }
  if (WIFSIGNALED(status)) return ProgramEnd{.exit_status = 0, .signal = WTERMSIG(status)};
  return ProgramEnd{.exit_status = WEXITSTATUS(status), .signal = 0};
}

}  // namespace

std::string describe(const ProgramEnd& end) {
  if (end.signal == 0) return fmt::format("exit status {}", end.exit_status);
  return fmt::format("signal {} ({})", end.signal, strsignal(end.signal));
}

Result<ProgramEnd> run_program(const std::string& path, const std::vector<std::string>& arguments,
                               const std::filesystem::path& log, const std::filesystem::path& scratch) {
  std::vector<std::string> words{path};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = environment(scratch);
  const Redirections redirections(log.string());
  const Attributes attributes;
  pid_t child = 0;
  core::Scratch registered;
  {
    // Held from before there is a child until it is known to whoever would have to end it.
    const core::ScratchLock lock;
    const int error = posix_spawn(&child, path.c_str(), redirections.get(), attributes.get(),
                                  pointers(words).data(), pointers(variables).data());
    if (error != 0) {
      return std::unexpected(
          Error{ErrorCode::io_error,
                fmt::format("cannot start {}: {}", path, std::generic_category().message(error)),
                {}});
    }
    registered = core::Scratch::process_group(lock, child);
  }
  return wait_for(path, child, std::move(registered));
}

}  // namespace lutsmith::emulator
