#include "core/fork_mark.h"

#include <pthread.h>

#include <atomic>

namespace lutsmith::core {
namespace {

// Counted by a handler and not compared by process id: that would be a system call for every request, and
// ids are used again.
std::atomic<std::uint32_t> generation{0};

void count_fork() { generation.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

ForkMark::ForkMark() {
  static const int registered = pthread_atfork(nullptr, nullptr, count_fork);
  static_cast<void>(registered);  // without memory for the handler a fork goes unseen, as it would without us
  generation_ = generation.load(std::memory_order_relaxed);
}

bool ForkMark::copied() const { return generation.load(std::memory_order_relaxed) != generation_; }

}  // namespace lutsmith::core
