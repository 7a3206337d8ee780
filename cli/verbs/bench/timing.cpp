#include "cli/verbs/bench/timing.h"

#include <algorithm>
#include <utility>

#include "core/result.h"

namespace lutsmith::cli {
namespace {

constexpr std::size_t kL2Multiple = 5;
constexpr int kMinLaunches = 20;
constexpr int kMaxLaunches = 512;
constexpr std::size_t kAlignment = 1024;
constexpr double kMicrosecondsPerMillisecond = 1000;

struct Stopwatch {
  cuda::Event start;
  cuda::Event stop;
};

Result<std::vector<Stopwatch>> make_stopwatches(const cuda::Driver& driver, std::size_t count) {
  std::vector<Stopwatch> stopwatches;
  for (std::size_t i = 0; i < count; ++i) {
    Result<cuda::Event> start = cuda::Event::create(driver);
    if (!start) return failure(start);
    Result<cuda::Event> stop = cuda::Event::create(driver);
    if (!stop) return failure(stop);
    stopwatches.push_back({std::move(*start), std::move(*stop)});
  }
  return stopwatches;
}

Result<void> enqueue_timed(const cuda::Stream& stream, const Contender& contender,
                           const Stopwatch& stopwatch) {
  if (Result<void> done = stopwatch.start.record(stream.get()); !done) return done;
  if (Result<void> done = contender.graph.launch(stream.get()); !done) return done;
  return stopwatch.stop.record(stream.get());
}

// One replay of each contender. An untimed one goes first: while it runs, the host gets ahead of the GPU,
// so that no timed graph waits for its launch.
Result<std::vector<double>> replay_all(const cuda::Stream& stream, std::span<const Contender> contenders,
                                       const std::vector<Stopwatch>& stopwatches) {
  if (Result<void> done = contenders.back().graph.launch(stream.get()); !done) {
    return failure(done);
  }
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    if (Result<void> done = enqueue_timed(stream, contenders[i], stopwatches[i]); !done) {
      return failure(done);
    }
  }
  if (Result<void> done = stream.synchronize(); !done) return failure(done);
  std::vector<double> milliseconds;
  for (const Stopwatch& stopwatch : stopwatches) {
    Result<float> elapsed = elapsed_milliseconds(stopwatch.start, stopwatch.stop);
    if (!elapsed) return failure(elapsed);
    milliseconds.push_back(static_cast<double>(*elapsed));
  }
  return milliseconds;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

Rotation make_rotation(std::size_t bytes, const cuda::DeviceFacts& gpu, std::size_t memory_limit) {
  Rotation rotation;
  rotation.stride = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const std::size_t enough = kL2Multiple * static_cast<std::size_t>(gpu.l2_bytes) / rotation.stride + 1;
  const std::size_t fit = std::max<std::size_t>(1, memory_limit / rotation.stride);
  // Two at least: with one, each launch would read what the one before it has just left in the cache.
  const std::size_t sets = std::min({std::max<std::size_t>(2, enough), fit, std::size_t{kMaxLaunches}});
  rotation.sets = static_cast<int>(sets);
  rotation.launches = std::max(kMinLaunches, rotation.sets);
  return rotation;
}

Result<Contender> make_contender(std::string name, const cuda::Stream& stream, int launches,
                                 const std::function<Result<void>(int launch)>& enqueue) {
  Result<cuda::Graph> graph = stream.capture([&]() -> Result<void> {
    for (int launch = 0; launch < launches; ++launch) {
      if (Result<void> done = enqueue(launch); !done) return done;
    }
    return {};
  });
  if (!graph) return failure(graph);
  return Contender{std::move(name), std::move(*graph), launches};
}

Result<std::vector<double>> measure(const cuda::Driver& driver, const cuda::Stream& stream,
                                    std::span<const Contender> contenders, const TimingOptions& options) {
  if (contenders.empty()) return std::vector<double>{};
  Result<std::vector<Stopwatch>> stopwatches = make_stopwatches(driver, contenders.size());
  if (!stopwatches) return failure(stopwatches);

  double warm_up = 0;
  for (int i = 0; i < 2; ++i) {
    Result<std::vector<double>> times = replay_all(stream, contenders, *stopwatches);
    if (!times) return failure(times);
    warm_up = *std::ranges::max_element(*times);
  }
  const int replays = std::clamp(static_cast<int>(options.milliseconds_each / std::max(warm_up, 0.001)),
                                 options.min_replays, options.max_replays);
  std::vector<std::vector<double>> samples(contenders.size());
  for (int replay = 0; replay < replays; ++replay) {
    Result<std::vector<double>> times = replay_all(stream, contenders, *stopwatches);
    if (!times) return failure(times);
    for (std::size_t i = 0; i < times->size(); ++i) samples[i].push_back((*times)[i]);
  }
  std::vector<double> medians;
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    medians.push_back(median(std::move(samples[i])) * kMicrosecondsPerMillisecond / contenders[i].launches);
  }
  return medians;
}

}  // namespace lutsmith::cli
