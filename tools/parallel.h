#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace lutsmith::tools {

/// Threads to use for `--jobs wanted`; 0 means one per core.
inline unsigned job_count(int wanted) {
  return wanted > 0 ? static_cast<unsigned>(wanted) : std::max(1U, std::thread::hardware_concurrency());
}

/// Calls `work(i)` for every i below `count` on up to `jobs` threads and waits for all. `work` must
/// not throw.
template <class Work>
void parallel_for(std::size_t count, unsigned jobs, Work&& work) {
  std::atomic<std::size_t> next{0};
  const auto take = [&] {
    for (std::size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::jthread> threads;
  for (std::size_t job = 1; job < std::min<std::size_t>(jobs, count); ++job) threads.emplace_back(take);
  take();
}

}  // namespace lutsmith::tools
