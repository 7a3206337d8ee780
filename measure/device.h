#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "lutsmith/error.h"
#include "runtime/driver.h"

namespace lutsmith::measure {

/// Memory of a device, aligned to 256 bytes at least. Freed with the object.
class Memory {
 public:
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  virtual ~Memory() = default;

  cuda::DevicePointer address() const { return address_; }
  std::byte* data() const { return reinterpret_cast<std::byte*>(address_); }
  std::size_t bytes() const { return bytes_; }

 protected:
  Memory(cuda::DevicePointer address, std::size_t bytes) : address_(address), bytes_(bytes) {}

 private:
  cuda::DevicePointer address_;
  std::size_t bytes_;
};

/// A kernel that was loaded from a cubin.
class DeviceKernel {
 public:
  DeviceKernel() = default;
  DeviceKernel(const DeviceKernel&) = delete;
  DeviceKernel& operator=(const DeviceKernel&) = delete;
  virtual ~DeviceKernel() = default;

  /// Enqueues it on the device's stream, whatever `configuration.stream` is. `parameters` holds a pointer to
  /// each parameter in order.
  virtual Result<void> launch(const cuda::LaunchConfiguration& configuration, void** parameters) const = 0;
};

/// Launches that were recorded once and run anew with each replay, without the host between them.
class Recording {
 public:
  Recording() = default;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  virtual ~Recording() = default;

  virtual Result<void> replay() const = 0;
};

/// The device's own time between two points of its stream.
class Stopwatch {
 public:
  Stopwatch() = default;
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  virtual ~Stopwatch() = default;

  virtual Result<void> start() = 0;
  virtual Result<void> stop() = 0;
  /// From `start` to `stop`; the stream must have reached both.
  virtual Result<double> milliseconds() const = 0;
};

/// A GPU and a stream of it, as far as measuring needs them. All is enqueued on that one stream, and in the
/// order of the calls. What a device made must be gone before the device is. For one thread at a time.
class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  virtual const cuda::DeviceFacts& facts() const = 0;
  /// For what enqueues by itself, such as cuBLAS or a kernel of the service.
  virtual cuda::StreamHandle stream() const = 0;

  virtual Result<std::unique_ptr<Memory>> allocate(std::size_t bytes) = 0;
  /// Copies from the host, at once: nothing may be enqueued that uses the bytes.
  virtual Result<void> write(cuda::DevicePointer to, std::span<const std::byte> from) = 0;
  /// Waits for all that was enqueued, then copies to the host.
  virtual Result<void> read(std::span<std::byte> to, cuda::DevicePointer from) = 0;
  /// Waits for all that was enqueued, then sets every byte, and waits for that.
  virtual Result<void> fill(cuda::DevicePointer to, unsigned char value, std::size_t bytes) = 0;
  /// Enqueues a copy within the device.
  virtual Result<void> copy(cuda::DevicePointer to, cuda::DevicePointer from, std::size_t bytes) = 0;

  virtual Result<std::unique_ptr<DeviceKernel>> load(std::span<const std::byte> cubin,
                                                     const std::string& name) = 0;

  /// Records what `enqueue` puts on the stream, running none of it. After an error the stream is as before.
  virtual Result<std::unique_ptr<Recording>> record(const std::function<Result<void>()>& enqueue) = 0;
  virtual Result<std::unique_ptr<Stopwatch>> create_stopwatch() = 0;

  /// Waits for all that was enqueued.
  virtual Result<void> synchronize() = 0;
};

/// Makes `memory` hold `bytes` at least. Of one that is too small what it held is lost; it is freed first,
/// since both may not fit.
Result<void> reserve(Device& device, std::unique_ptr<Memory>& memory, std::size_t bytes);

}  // namespace lutsmith::measure
