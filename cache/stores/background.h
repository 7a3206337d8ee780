#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

#include "core/fork_mark.h"

namespace lutsmith::cache {

/// Runs jobs one after the other on a thread of its own, which starts with the first job. In a forked copy of
/// the process, which has no such thread, jobs are dropped.
class BackgroundWorker {
 public:
  /// At most `most_waiting` jobs wait; further ones are dropped.
  explicit BackgroundWorker(std::size_t most_waiting);
  BackgroundWorker(const BackgroundWorker&) = delete;
  BackgroundWorker& operator=(const BackgroundWorker&) = delete;
  /// Drops what waits and returns after the job that runs. Call `flush` before for the others.
  ~BackgroundWorker();

  /// Whether the job was taken. What it throws is lost.
  bool run(std::function<void()> job);
  /// Waits until every job is done, but no longer than `longest`. Whether they are; not so in a forked copy,
  /// which does not know.
  bool flush(std::chrono::milliseconds longest);

 private:
  struct State;
  core::ForkMark mark_;
  std::size_t most_waiting_;
  std::unique_ptr<State> state_;
};

}  // namespace lutsmith::cache
