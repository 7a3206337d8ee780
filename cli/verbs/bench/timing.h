#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lutsmith/error.h"
#include "runtime/driver.h"

namespace lutsmith::cli {

/// How launches go round over copies of the weights, so that none finds its own in the L2 cache.
struct Rotation {
  int sets = 1;            ///< copies, each at an address of its own
  int launches = 1;        ///< in one graph; launch i uses copy i mod sets
  std::size_t stride = 0;  ///< bytes between copies

  std::size_t offset(int launch) const { return static_cast<std::size_t>(launch % sets) * stride; }
  std::size_t pool_bytes() const { return static_cast<std::size_t>(sets) * stride; }
};

/// Copies of `bytes` that together are several times the L2 cache, within `memory_limit` (at least one).
Rotation make_rotation(std::size_t bytes, const cuda::DeviceFacts& gpu, std::size_t memory_limit);

/// Something that is timed: a graph of back-to-back launches.
struct Contender {
  std::string name;
  cuda::Graph graph;
  int launches = 1;
};

/// Records `launches` calls of `enqueue(launch)` as a graph.
Result<Contender> make_contender(std::string name, const cuda::Stream& stream, int launches,
                                 const std::function<Result<void>(int launch)>& enqueue);

struct TimingOptions {
  int min_replays = 9;
  int max_replays = 25;
  /// GPU time to spend on each contender, as far as the number of replays allows.
  double milliseconds_each = 30;
};

/// Median microseconds per launch of each contender. The contenders take turns, replay by replay, so that
/// a clock that drifts meets all of them alike.
Result<std::vector<double>> measure(const cuda::Driver& driver, const cuda::Stream& stream,
                                    std::span<const Contender> contenders, const TimingOptions& options = {});

}  // namespace lutsmith::cli
