#include "measure/timing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/result.h"

namespace lutsmith::measure {
namespace {

constexpr int kWarmUpRounds = 2;
constexpr double kShortestMilliseconds = 0.02;
constexpr int kMaxReplays = 4096;  // between start and stop: what then takes no time never will
constexpr double kMicrosecondsPerMillisecond = 1000;

Error no_time(const std::string& contender) {
  return {ErrorCode::driver_error,
          fmt::format("{} took no time that the GPU's clock can tell; record more launches of it", contender),
          ""};
}

}  // namespace

Result<Contender> make_contender(Device& device, std::string name, int launches,
                                 const std::function<Result<void>(int launch)>& enqueue) {
  Result<std::unique_ptr<Recording>> recording = device.record([&]() -> Result<void> {
    for (int launch = 0; launch < launches; ++launch) {
      if (Result<void> done = enqueue(launch); !done) return done;
    }
    return {};
  });
  if (!recording) return failure(recording);
  return Contender{std::move(name), std::move(*recording), launches};
}

Result<Turns> Turns::begin(Device& device, std::span<const Contender> contenders) {
  Turns turns(device);
  for (const Contender& contender : contenders) {
    Result<std::unique_ptr<Stopwatch>> stopwatch = device.create_stopwatch();
    if (!stopwatch) return failure(stopwatch);
    turns.entrants_.push_back({.contender = &contender, .stopwatch = std::move(*stopwatch)});
  }
  if (Result<void> warm = turns.warm_up(); !warm) return failure(warm);
  return turns;
}

Result<void> Turns::warm_up() {
  for (int i = 0; i < kWarmUpRounds; ++i) {
    if (Result<void> done = replay_all(); !done) return done;
  }
  for (;;) {
    Result<bool> longer = lengthen();
    if (!longer) return failure(longer);
    if (!*longer) return {};
    if (Result<void> done = replay_all(); !done) return done;
  }
}

// More replays between start and stop for those that took too little time. Whether there were any.
Result<bool> Turns::lengthen() {
  bool longer = false;
  for (Entrant& entrant : entrants_) {
    if (entrant.milliseconds >= kShortestMilliseconds) continue;
    if (entrant.replays >= kMaxReplays) {
      if (entrant.milliseconds <= 0) return std::unexpected(no_time(entrant.contender->name));
      continue;
    }
    // At most sixteen times as many at once, since the little time there was is known but roughly.
    const double factor =
        entrant.milliseconds > 0 ? std::min(16.0, kShortestMilliseconds / entrant.milliseconds) : 16.0;
    entrant.replays = std::min(
        kMaxReplays, std::max(entrant.replays + 1, static_cast<int>(std::ceil(entrant.replays * factor))));
    longer = true;
  }
  return longer;
}

Result<void> Turns::replay_all() {
  const auto takes_part = [](const Entrant& entrant) { return !entrant.withdrawn; };
  const auto last = std::ranges::find_if(entrants_.rbegin(), entrants_.rend(), takes_part);
  if (last == entrants_.rend()) return {};
  if (Result<void> done = last->contender->recording->replay(); !done) return done;
  for (Entrant& entrant : entrants_) {
    if (entrant.withdrawn) continue;
    Result<void> done = entrant.stopwatch->start();
    for (int i = 0; done && i < entrant.replays; ++i) done = entrant.contender->recording->replay();
    if (done) done = entrant.stopwatch->stop();
    if (!done) return done;
  }
  if (Result<void> done = device_->synchronize(); !done) return done;
  longest_milliseconds_ = 0;
  for (Entrant& entrant : entrants_) {
    if (entrant.withdrawn) continue;
    Result<double> elapsed = entrant.stopwatch->milliseconds();
    if (!elapsed) return failure(elapsed);
    entrant.milliseconds = *elapsed;
    longest_milliseconds_ = std::max(longest_milliseconds_, *elapsed);
  }
  return {};
}

Result<void> Turns::round() {
  if (Result<void> done = replay_all(); !done) return done;
  for (Entrant& entrant : entrants_) {
    if (entrant.withdrawn) continue;
    if (!(entrant.milliseconds > 0)) return std::unexpected(no_time(entrant.contender->name));
    const double launches = static_cast<double>(entrant.contender->launches) * entrant.replays;
    entrant.times.push_back(entrant.milliseconds * kMicrosecondsPerMillisecond / launches);
  }
  return {};
}

void Turns::withdraw(std::size_t contender) { entrants_[contender].withdrawn = true; }

Result<std::vector<Statistics>> measure(Device& device, std::span<const Contender> contenders,
                                        const TimingOptions& options) {
  if (contenders.empty()) return std::vector<Statistics>{};
  Result<Turns> turns = Turns::begin(device, contenders);
  if (!turns) return failure(turns);
  const double wanted = options.milliseconds_each / std::max(turns->longest_milliseconds(), 0.001);
  const int rounds = std::clamp(static_cast<int>(wanted), options.min_rounds, options.max_rounds);
  for (int i = 0; i < rounds; ++i) {
    if (Result<void> done = turns->round(); !done) return failure(done);
  }
  std::vector<Statistics> result;
  for (std::size_t i = 0; i < contenders.size(); ++i) result.push_back(summarize(turns->times(i)));
  return result;
}

}  // namespace lutsmith::measure
