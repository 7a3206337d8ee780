#pragma once

#include <memory>

#include "measure/device.h"

namespace lutsmith::measure {

/// The GPU of the context that is current in this thread (where there is none, the first), by the driver.
class CudaDevice final : public Device {
 public:
  /// `driver` must outlive the device.
  static Result<std::unique_ptr<CudaDevice>> open(const cuda::Driver& driver);

  const cuda::Driver& driver() const { return driver_; }

  const cuda::DeviceFacts& facts() const override { return facts_; }
  cuda::StreamHandle stream() const override { return stream_.get(); }

  Result<std::unique_ptr<Memory>> allocate(std::size_t bytes) override;
  Result<void> write(cuda::DevicePointer to, std::span<const std::byte> from) override;
  Result<void> read(std::span<std::byte> to, cuda::DevicePointer from) override;
  Result<void> fill(cuda::DevicePointer to, unsigned char value, std::size_t bytes) override;
  Result<void> copy(cuda::DevicePointer to, cuda::DevicePointer from, std::size_t bytes) override;
  Result<std::unique_ptr<DeviceKernel>> load(std::span<const std::byte> cubin,
                                             const std::string& name) override;
  Result<std::unique_ptr<Recording>> record(const std::function<Result<void>()>& enqueue) override;
  Result<std::unique_ptr<Stopwatch>> create_stopwatch() override;
  Result<void> synchronize() override;

 private:
  CudaDevice(const cuda::Driver& driver, cuda::DeviceFacts facts, cuda::Stream stream)
      : driver_(driver), facts_(std::move(facts)), stream_(std::move(stream)) {}

  const cuda::Driver& driver_;
  cuda::DeviceFacts facts_;
  cuda::Stream stream_;
};

}  // namespace lutsmith::measure
