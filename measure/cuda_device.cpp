#include "measure/cuda_device.h"

#include <utility>

#include "core/result.h"

namespace lutsmith::measure {
namespace {

class CudaMemory final : public Memory {
 public:
  explicit CudaMemory(cuda::Buffer buffer)
      : Memory(buffer.address(), buffer.bytes()), buffer_(std::move(buffer)) {}

 private:
  cuda::Buffer buffer_;
};

class CudaKernel final : public DeviceKernel {
 public:
  CudaKernel(const cuda::Driver& driver, cuda::StreamHandle stream, cuda::Module module,
             cuda::FunctionHandle function)
      : driver_(driver), stream_(stream), module_(std::move(module)), function_(function) {}

  Result<void> launch(const cuda::LaunchConfiguration& configuration, void** parameters) const override {
    cuda::LaunchConfiguration on_stream = configuration;
    on_stream.stream = stream_;
    return driver_.launch(function_, on_stream, parameters);
  }

 private:
  const cuda::Driver& driver_;
  cuda::StreamHandle stream_;
  cuda::Module module_;
  cuda::FunctionHandle function_;
};

class CudaRecording final : public Recording {
 public:
  CudaRecording(cuda::Graph graph, cuda::StreamHandle stream) : graph_(std::move(graph)), stream_(stream) {}

  Result<void> replay() const override { return graph_.launch(stream_); }

 private:
  cuda::Graph graph_;
  cuda::StreamHandle stream_;
};

class CudaStopwatch final : public Stopwatch {
 public:
  CudaStopwatch(cuda::Event start, cuda::Event stop, cuda::StreamHandle stream)
      : start_(std::move(start)), stop_(std::move(stop)), stream_(stream) {}

  Result<void> start() override { return start_.record(stream_); }
  Result<void> stop() override { return stop_.record(stream_); }
  Result<double> milliseconds() const override { return elapsed_milliseconds(start_, stop_); }

 private:
  cuda::Event start_;
  cuda::Event stop_;
  cuda::StreamHandle stream_;
};

}  // namespace

Result<std::unique_ptr<CudaDevice>> CudaDevice::open(const cuda::Driver& driver) {
  if (Result<cuda::ContextHandle> context = driver.ensure_context(); !context) return failure(context);
  Result<cuda::DeviceHandle> handle = driver.current_device();
  if (!handle) return failure(handle);
  Result<cuda::DeviceFacts> facts = driver.device(*handle);
  if (!facts) return failure(facts);
  Result<cuda::Stream> stream = cuda::Stream::create(driver);
  if (!stream) return failure(stream);
  return std::unique_ptr<CudaDevice>(new CudaDevice(driver, std::move(*facts), std::move(*stream)));
}

Result<std::unique_ptr<Memory>> CudaDevice::allocate(std::size_t bytes) {
  Result<cuda::Buffer> buffer = cuda::Buffer::allocate(driver_, bytes);
  if (!buffer) return failure(buffer);
  return std::make_unique<CudaMemory>(std::move(*buffer));
}

Result<void> CudaDevice::write(cuda::DevicePointer to, std::span<const std::byte> from) {
  return driver_.copy_to_device(to, from);
}

Result<void> CudaDevice::read(std::span<std::byte> to, cuda::DevicePointer from) {
  Result<void> done = driver_.synchronize();
  if (done) done = driver_.copy_to_host(to, from);
  return done;
}

Result<void> CudaDevice::fill(cuda::DevicePointer to, unsigned char value, std::size_t bytes) {
  // The whole context, since a memset is on the default stream, which the device's does not wait for.
  Result<void> done = driver_.synchronize();
  if (done) done = driver_.set(to, value, bytes);
  if (done) done = driver_.synchronize();
  return done;
}

Result<void> CudaDevice::copy(cuda::DevicePointer to, cuda::DevicePointer from, std::size_t bytes) {
  return driver_.copy_on_device_async(to, from, bytes, stream_.get());
}

Result<std::unique_ptr<DeviceKernel>> CudaDevice::load(std::span<const std::byte> cubin,
                                                       const std::string& name) {
  Result<cuda::Module> module = cuda::Module::load(driver_, cubin);
  if (!module) return failure(module);
  Result<cuda::FunctionHandle> function = module->function(name);
  if (!function) return failure(function);
  return std::make_unique<CudaKernel>(driver_, stream_.get(), std::move(*module), *function);
}

Result<std::unique_ptr<Recording>> CudaDevice::record(const std::function<Result<void>()>& enqueue) {
  Result<cuda::Graph> graph = stream_.capture(enqueue);
  if (!graph) return failure(graph);
  return std::make_unique<CudaRecording>(std::move(*graph), stream_.get());
}

Result<std::unique_ptr<Stopwatch>> CudaDevice::create_stopwatch() {
  Result<cuda::Event> start = cuda::Event::create(driver_);
  if (!start) return failure(start);
  Result<cuda::Event> stop = cuda::Event::create(driver_);
  if (!stop) return failure(stop);
  return std::make_unique<CudaStopwatch>(std::move(*start), std::move(*stop), stream_.get());
}

Result<void> CudaDevice::synchronize() { return stream_.synchronize(); }

}  // namespace lutsmith::measure
