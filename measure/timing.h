#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "measure/device.h"
#include "measure/statistics.h"

// How times are taken.
//
// Cold weights.  A model reads each of its weights once per token, so launches go round over copies that
// together
//                are five times the L2 cache: rotation.h.
// Back to back.  The launches of a contender are recorded once and replayed, so that what is timed is the GPU
// and
//                not the host. The time of a replay is divided by its launches.
// In turns.      All contenders are replayed one after another, round by round, after two rounds of warm-up.
// A
//                clock that drifts meets all of them alike: compare times of one run, not of two.
//
//   round   (replay)  [ A ]  [ B ]  [ C ]    (replay)  [ A ]  [ B ]  [ C ]    ...
//            untimed   ^  ^
//                  start  stop
//
// Host ahead.    Each round begins with an untimed replay, during which the host gets ahead of the GPU, so
// that no
//                timed one waits for its launch.
// Long enough.   The device's clock ticks about twice a microsecond. What takes less than 20 us is replayed
// several
//                times between start and stop; better is to record more launches.
// Median.        Of 9 to 25 rounds, with spread, outliers and drift beside it: statistics.h.

namespace lutsmith::measure {

/// Something that is timed: launches recorded back to back.
struct Contender {
  std::string name;
  std::unique_ptr<Recording> recording;
  int launches = 1;
};

/// Records `launches` calls of `enqueue(launch)`, which put work on the device's stream.
Result<Contender> make_contender(Device& device, std::string name, int launches,
                                 const std::function<Result<void>(int launch)>& enqueue);

/// Contenders that take turns. Who wants to stop early looks at the times between the rounds:
///
///   Result<Turns> turns = Turns::begin(device, contenders);
///   for (int i = 0; turns && i < 25; ++i) {
///     if (Result<void> done = turns->round(); !done) ...
///     if (hopeless(turns->times(2))) turns->withdraw(2);
///   }
class Turns {
 public:
  /// Warms up. `device` and `contenders` must outlive it. An error of code driver_error names a contender
  /// whose time is none (nothing was recorded, or the device's clock stands).
  static Result<Turns> begin(Device& device, std::span<const Contender> contenders);

  /// One replay of each contender that has not been withdrawn.
  Result<void> round();

  /// Takes a contender out of the rounds to come.
  void withdraw(std::size_t contender);

  /// Microseconds per launch, one for each round that the contender took part in.
  const std::vector<double>& times(std::size_t contender) const { return entrants_[contender].times; }
  /// What the slowest contender of the last round took for its part of the round.
  double longest_milliseconds() const { return longest_milliseconds_; }

 private:
  struct Entrant {
    const Contender* contender = nullptr;
    std::unique_ptr<Stopwatch> stopwatch;
    int replays = 1;  ///< between start and stop
    bool withdrawn = false;
    double milliseconds = 0;  ///< of the last round, of all those replays
    std::vector<double> times = {};
  };

  explicit Turns(Device& device) : device_(&device) {}
  Result<void> warm_up();
  Result<void> replay_all();
  Result<bool> lengthen();

  Device* device_;
  std::vector<Entrant> entrants_;
  double longest_milliseconds_ = 0;
};

struct TimingOptions {
  int min_rounds = 9;
  int max_rounds = 25;
  /// Time of the device to spend on each contender, as far as the number of rounds allows.
  double milliseconds_each = 30;
};

/// Microseconds per launch of each contender, taken in turns.
Result<std::vector<Statistics>> measure(Device& device, std::span<const Contender> contenders,
                                        const TimingOptions& options = {});

}  // namespace lutsmith::measure
