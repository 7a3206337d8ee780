#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <random>
#include <string>
#include <vector>

#include "measure/device.h"

namespace lutsmith::test {

/// How long things take on a simulated device, and what disturbs them.
struct SimulatedTimes {
  double fixed_microseconds = 1;  ///< of every launch
  double memory_bytes_per_microsecond = 2e6;
  double cache_bytes_per_microsecond = 8e6;
  double launch_microseconds = 0;  ///< until a replay begins on a device with nothing to do
  double tick_microseconds = 0;    ///< what stopwatches count in; 0: they are exact
  double noise = 0;                ///< standard deviation of a replay's time, relative
  unsigned seed = 1;               ///< of the noise
  /// Every so many replays one takes three times as long; 0: never.
  int disturbed_every = 0;
  int cold_replays = 0;  ///< of each recording, ten times as long as later ones
  /// Relative slowness of the clock at a time in microseconds since the device was made.
  std::function<double(double)> slowness = [](double) { return 1.0; };
};

/// A device whose kernels take stated times. Its memory is the host's, so that what is written can be read; a
/// replay takes the time of its launches, and those find in the L2 cache what was read last.
class SimulatedDevice final : public measure::Device {
 public:
  explicit SimulatedDevice(SimulatedTimes times = {});
  ~SimulatedDevice() override;

  /// A launch that takes `microseconds` at the clock's full speed, for use inside `record`.
  Result<void> enqueue(double microseconds);
  /// A launch that reads so many bytes; nothing but time is simulated of it.
  Result<void> enqueue_read(const std::byte* data, std::size_t bytes);
  /// Work of the host's that is done where a launch would write its result.
  Result<void> enqueue_work(std::function<void()> work);

  /// The call with this number (the first is 0) fails, and all after it go on.
  void fail_call(int number) { failing_call_ = number; }
  int calls() const { return calls_; }
  /// Objects made by the device that are not yet gone.
  int living() const { return living_; }
  int synchronizations() const { return synchronizations_; }
  /// What was replayed, in order: indices of recordings as they were made. Timed ones only with `timed`.
  const std::vector<int>& replays() const { return replays_; }
  /// Launches of kernels that were loaded, outside of recordings or while recording.
  const std::vector<cuda::LaunchConfiguration>& launches() const { return launches_; }
  cuda::DeviceFacts& mutable_facts() { return facts_; }

  const cuda::DeviceFacts& facts() const override { return facts_; }
  cuda::StreamHandle stream() const override;
  Result<std::unique_ptr<measure::Memory>> allocate(std::size_t bytes) override;
  Result<void> write(cuda::DevicePointer to, std::span<const std::byte> from) override;
  Result<void> read(std::span<std::byte> to, cuda::DevicePointer from) override;
  Result<void> fill(cuda::DevicePointer to, unsigned char value, std::size_t bytes) override;
  Result<void> copy(cuda::DevicePointer to, cuda::DevicePointer from, std::size_t bytes) override;
  Result<std::unique_ptr<measure::DeviceKernel>> load(std::span<const std::byte> cubin,
                                                      const std::string& name) override;
  Result<std::unique_ptr<measure::Recording>> record(const std::function<Result<void>()>& enqueue) override;
  Result<std::unique_ptr<measure::Stopwatch>> create_stopwatch() override;
  Result<void> synchronize() override;

 private:
  friend class SimulatedKernel;
  friend class SimulatedMemory;
  friend class SimulatedRecording;
  friend class SimulatedStopwatch;

  using Work = std::function<double()>;  // does it, and returns microseconds at full speed

  Result<void> call(const char* name);
  Result<void> put(Work work);
  double read_microseconds(const std::byte* data, std::size_t bytes);
  void replay(int recording, int replay_of_it, const std::vector<Work>& works);

  SimulatedTimes times_;
  cuda::DeviceFacts facts_;
  double now_ = 0;
  bool idle_ = true;
  std::vector<Work>* recording_ = nullptr;
  int recordings_ = 0;
  int living_ = 0;
  int calls_ = 0;
  int failing_call_ = -1;
  int synchronizations_ = 0;
  int replayed_ = 0;
  std::vector<int> replays_;
  std::vector<cuda::LaunchConfiguration> launches_;
  std::mt19937_64 random_;
  std::list<std::pair<const std::byte*, std::size_t>> cached_;  // what was read last comes first
};

}  // namespace lutsmith::test
