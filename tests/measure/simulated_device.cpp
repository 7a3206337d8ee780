#include "simulated_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace lutsmith::test {

class SimulatedMemory final : public measure::Memory {
 public:
  SimulatedMemory(SimulatedDevice& device, std::byte* data, std::size_t bytes)
      : Memory(reinterpret_cast<cuda::DevicePointer>(data), bytes), device_(device) {
    ++device_.living_;
  }
  ~SimulatedMemory() override {
    --device_.living_;
    ::operator delete(data(), std::align_val_t{256});
  }

 private:
  SimulatedDevice& device_;
};

// Reads parameters as templates/streaming_floor.cu has them.
class SimulatedKernel final : public measure::DeviceKernel {
 public:
  explicit SimulatedKernel(SimulatedDevice& device) : device_(device) { ++device_.living_; }
  ~SimulatedKernel() override { --device_.living_; }

  Result<void> launch(const cuda::LaunchConfiguration& configuration, void** parameters) const override {
    const auto* data = *static_cast<const std::byte**>(parameters[0]);
    const auto vectors = *static_cast<long long*>(parameters[1]);
    device_.launches_.push_back(configuration);
    return device_.enqueue_read(data, static_cast<std::size_t>(vectors) * 16);
  }

 private:
  SimulatedDevice& device_;
};

class SimulatedRecording final : public measure::Recording {
 public:
  SimulatedRecording(SimulatedDevice& device, int index, std::vector<SimulatedDevice::Work> works)
      : device_(device), index_(index), works_(std::move(works)) {
    ++device_.living_;
  }
  ~SimulatedRecording() override { --device_.living_; }

  Result<void> replay() const override {
    if (Result<void> done = device_.call("replay"); !done) return done;
    device_.replay(index_, replays_++, works_);
    return {};
  }

 private:
  SimulatedDevice& device_;
  int index_;
  std::vector<SimulatedDevice::Work> works_;
  mutable int replays_ = 0;
};

class SimulatedStopwatch final : public measure::Stopwatch {
 public:
  explicit SimulatedStopwatch(SimulatedDevice& device) : device_(device) { ++device_.living_; }
  ~SimulatedStopwatch() override { --device_.living_; }

  Result<void> start() override {
    start_ = device_.now_;
    return device_.call("start");
  }
  Result<void> stop() override {
    stop_ = device_.now_;
    return device_.call("stop");
  }
  Result<double> milliseconds() const override {
    if (Result<void> done = device_.call("milliseconds"); !done) return std::unexpected(done.error());
    const double tick = device_.times_.tick_microseconds;
    if (tick <= 0) return (stop_ - start_) / 1000;
    return (std::floor(stop_ / tick) - std::floor(start_ / tick)) * tick / 1000;
  }

 private:
  SimulatedDevice& device_;
  double start_ = 0;
  double stop_ = 0;
};

SimulatedDevice::SimulatedDevice(SimulatedTimes times) : times_(std::move(times)), random_(times_.seed) {
  facts_.name = "simulated";
  facts_.major = 9;
  facts_.multiprocessors = 100;
  facts_.l2_bytes = 1 << 20;
  facts_.memory_bytes = std::size_t{1} << 28;
}

SimulatedDevice::~SimulatedDevice() = default;

cuda::StreamHandle SimulatedDevice::stream() const { return nullptr; }

Result<void> SimulatedDevice::call(const char* name) {
  if (calls_++ != failing_call_) return {};
  return std::unexpected(Error{ErrorCode::driver_error, std::string(name) + " failed as asked", ""});
}

Result<void> SimulatedDevice::put(Work work) {
  if (Result<void> done = call("launch"); !done) return done;
  if (recording_ != nullptr) {
    recording_->push_back(std::move(work));
  } else {
    now_ += work();
    idle_ = false;
  }
  return {};
}

Result<void> SimulatedDevice::enqueue(double microseconds) {
  return put([microseconds] { return microseconds; });
}

Result<void> SimulatedDevice::enqueue_read(const std::byte* data, std::size_t bytes) {
  return put([this, data, bytes] { return read_microseconds(data, bytes); });
}

Result<void> SimulatedDevice::enqueue_work(std::function<void()> work) {
  return put([this, work = std::move(work)] {
    work();
    return times_.fixed_microseconds;
  });
}

double SimulatedDevice::read_microseconds(const std::byte* data, std::size_t bytes) {
  const std::pair range(data, bytes);
  const auto found = std::ranges::find(cached_, range);
  const bool hit = found != cached_.end();
  if (hit) cached_.erase(found);
  cached_.push_front(range);
  std::size_t held = 0;
  for (auto it = cached_.begin(); it != cached_.end();) {
    held += it->second;
    it = held > static_cast<std::size_t>(facts_.l2_bytes) ? cached_.erase(it) : std::next(it);
  }
  const double rate = hit ? times_.cache_bytes_per_microsecond : times_.memory_bytes_per_microsecond;
  return times_.fixed_microseconds + static_cast<double>(bytes) / rate;
}

void SimulatedDevice::replay(int recording, int replay_of_it, const std::vector<Work>& works) {
  replays_.push_back(recording);
  double microseconds = 0;
  for (const Work& work : works) microseconds += work();
  if (replay_of_it < times_.cold_replays) microseconds *= 10;
  if (times_.noise > 0) {
    std::normal_distribution<double> noise(1, times_.noise);
    microseconds *= std::max(0.1, noise(random_));
  }
  if (times_.disturbed_every > 0 && ++replayed_ % times_.disturbed_every == 0) microseconds *= 3;
  microseconds *= times_.slowness(now_);
  if (std::exchange(idle_, false)) microseconds += times_.launch_microseconds;
  now_ += microseconds;
}

Result<std::unique_ptr<measure::Memory>> SimulatedDevice::allocate(std::size_t bytes) {
  if (Result<void> done = call("allocate"); !done) return std::unexpected(done.error());
  auto* data = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{256}));
  return std::make_unique<SimulatedMemory>(*this, data, bytes);
}

Result<void> SimulatedDevice::write(cuda::DevicePointer to, std::span<const std::byte> from) {
  if (Result<void> done = call("write"); !done) return done;
  std::memcpy(reinterpret_cast<void*>(to), from.data(), from.size());
  return {};
}

Result<void> SimulatedDevice::read(std::span<std::byte> to, cuda::DevicePointer from) {
  if (Result<void> done = call("read"); !done) return done;
  std::memcpy(to.data(), reinterpret_cast<const void*>(from), to.size());
  return {};
}

Result<void> SimulatedDevice::fill(cuda::DevicePointer to, unsigned char value, std::size_t bytes) {
  if (Result<void> done = call("fill"); !done) return done;
  std::memset(reinterpret_cast<void*>(to), value, bytes);
  return {};
}

Result<void> SimulatedDevice::copy(cuda::DevicePointer to, cuda::DevicePointer from, std::size_t bytes) {
  if (Result<void> done = call("copy"); !done) return done;
  std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  return {};
}

Result<std::unique_ptr<measure::DeviceKernel>> SimulatedDevice::load(std::span<const std::byte>,
                                                                     const std::string&) {
  if (Result<void> done = call("load"); !done) return std::unexpected(done.error());
  return std::make_unique<SimulatedKernel>(*this);
}

Result<std::unique_ptr<measure::Recording>> SimulatedDevice::record(
    const std::function<Result<void>()>& enqueue) {
  if (Result<void> done = call("record"); !done) return std::unexpected(done.error());
  std::vector<Work> works;
  recording_ = &works;
  const Result<void> enqueued = enqueue();
  recording_ = nullptr;
  if (!enqueued) return std::unexpected(enqueued.error());
  return std::make_unique<SimulatedRecording>(*this, recordings_++, std::move(works));
}

Result<std::unique_ptr<measure::Stopwatch>> SimulatedDevice::create_stopwatch() {
  if (Result<void> done = call("create_stopwatch"); !done) return std::unexpected(done.error());
  return std::make_unique<SimulatedStopwatch>(*this);
}

Result<void> SimulatedDevice::synchronize() {
  ++synchronizations_;
  idle_ = true;
  return call("synchronize");
}

}  // namespace lutsmith::test
