#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "lutsmith/error.h"

namespace lutsmith {

/// Threads to use where `wanted` are asked for; 0 means one per core.
inline unsigned job_count(int wanted) {
  return wanted > 0 ? static_cast<unsigned>(wanted) : std::max(1U, std::thread::hardware_concurrency());
}

/// Calls `work(i)` for every i below `count` on up to `jobs` threads, fewer where the system starts no more,
/// and waits for all. `work` must not throw.
template <class Work>
void parallel_for(std::size_t count, unsigned jobs, Work&& work) {
  std::atomic<std::size_t> next{0};
  const auto take = [&] {
    for (std::size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::jthread> threads;
  const auto start = [&] {
    try {
      threads.emplace_back(take);
      return true;
    } catch (const std::exception&) {
      return false;  // at a limit on processes or memory
    }
  };
  while (threads.size() + 1 < std::min<std::size_t>(jobs, count) && start()) continue;
  take();
}

/// The same for work that can fail, `Result<void> work(i)`: begun in ascending order of i, and after a
/// failure no more is begun. Of several failures the one of the lowest i is returned.
template <class Work>
Result<void> parallel_until_error(std::size_t count, unsigned jobs, Work&& work) {
  std::atomic<bool> failed = false;
  std::mutex mutex;
  std::size_t failed_at = count;
  Result<void> result;
  parallel_for(count, jobs, [&](std::size_t i) {
    if (failed) return;
    Result<void> done;
    try {
      done = work(i);
    } catch (const std::bad_alloc&) {
      done = std::unexpected(Error{ErrorCode::out_of_memory, "no memory left; let fewer threads work", {}});
    }
    if (done) return;
    failed = true;
    const std::scoped_lock lock(mutex);
    if (i >= failed_at) return;
    failed_at = i;
    result = std::move(done);
  });
  return result;
}

}  // namespace lutsmith
