#include "cli/interruption.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <initializer_list>
#include <system_error>
#include <thread>

#include "core/scratch.h"

namespace lutsmith::cli {
namespace {

bool is_ignored(int signal) {
  struct sigaction action{};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

/// As the signal would have ended it. Under the lock no other thread makes anything new.
[[noreturn]] void end_by(int signal, const core::ScratchLock& /*nothing_new*/) {
  kill(getpid(), signal);
  _exit(128 + signal);  // only where the system protects process 1 from its own signals
}

[[noreturn]] void wait_and_clean_up(const sigset_t& signals) {
  int signal = 0;
  while (sigwait(&signals, &signal) != 0) {
  }
  // Their actions are the default ones and this is the only thread that lets them through: whoever asks again
  // need not wait for the removal.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  end_by(signal, core::remove_scratch());
}

}  // namespace

void clean_up_when_interrupted() {
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);
  sigset_t signals;
  sigemptyset(&signals);
  bool any = false;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    if (is_ignored(signal)) continue;
    sigaddset(&signals, signal);
    any = true;
  }
  if (!any) return;
  // Threads inherit the mask, so that only the one below ever sees these signals.
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, &signals, &before);
  try {
    std::thread([signals] { wait_and_clean_up(signals); }).detach();
  } catch (const std::system_error&) {  // no thread to be had: the signals end the program as they always did
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
}

}  // namespace lutsmith::cli
