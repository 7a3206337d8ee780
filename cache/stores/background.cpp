#include "cache/stores/background.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace lutsmith::cache {

struct BackgroundWorker::State {
  void work();

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> waiting;
  bool running = false;
  bool stopping = false;
  std::thread thread;
};

void BackgroundWorker::State::work() {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [this] { return stopping || !waiting.empty(); });
    if (stopping) return;
    const std::function<void()> job = std::move(waiting.front());
    waiting.pop_front();
    running = true;
    lock.unlock();
    try {
      job();
    } catch (...) {  // NOLINT(bugprone-empty-catch): no memory, or a log callback of the user's; a thread has
                     // no caller
    }
    lock.lock();
    running = false;
    changed.notify_all();
  }
}

BackgroundWorker::BackgroundWorker(std::size_t most_waiting)
    : most_waiting_(most_waiting), state_(std::make_unique<State>()) {}

BackgroundWorker::~BackgroundWorker() {
  if (mark_.copied()) {
    // Its thread is not here to be joined. Lost on purpose: its destructor would wait for ever.
    static_cast<void>(state_.release());  // NOLINT(bugprone-unused-return-value)
    return;
  }
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_all();
  if (state_->thread.joinable()) state_->thread.join();
}

bool BackgroundWorker::run(std::function<void()> job) {
  if (mark_.copied()) return false;
  const std::lock_guard lock(state_->mutex);
  if (state_->waiting.size() >= most_waiting_) return false;
  if (!state_->thread.joinable()) {
    try {
      state_->thread = std::thread(&State::work, state_.get());
    } catch (const std::system_error&) {
      return false;  // no more threads: the next job tries again
    }
  }
  state_->waiting.push_back(std::move(job));
  state_->changed.notify_all();
  return true;
}

bool BackgroundWorker::flush(std::chrono::milliseconds longest) {
  if (mark_.copied()) return false;
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, longest,
                                  [this] { return state_->waiting.empty() && !state_->running; });
}

}  // namespace lutsmith::cache
