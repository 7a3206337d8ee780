#include "cli/verbs/bench/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/open_service.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

// Of the GPU's memory, for the packed and for the dense weights each; rotations seldom need as much.
constexpr std::size_t kMemoryShare = 4;
constexpr std::size_t kLargestPool = std::size_t{8} << 30;

// Odd, so that rows of a matrix do not repeat.
constexpr std::size_t kPatternValues = (std::size_t{1} << 20) + 7;

std::size_t pool_limit(const cuda::DeviceFacts& gpu) {
  return std::min(kLargestPool, gpu.memory_bytes / kMemoryShare);
}

Error needs_gpu(const Error& reason) {
  return {reason.code == ErrorCode::invalid_argument ? ErrorCode::unsupported : reason.code,
          fmt::format("bench needs a GPU: {}; `lutsmith compile` works without one", reason.message),
          reason.context};
}

// Repeats the first `filled` bytes over the whole buffer; each copy doubles what is there.
Result<void> repeat_over(const cuda::Driver& driver, const cuda::Buffer& buffer, std::size_t filled,
                         std::size_t bytes, const cuda::Stream& stream) {
  while (filled < bytes) {
    const std::size_t count = std::min(filled, bytes - filled);
    Result<void> copied =
        driver.copy_on_device_async(buffer.address() + filled, buffer.address(), count, stream.get());
    if (!copied) return copied;
    filled += count;
  }
  return stream.synchronize();
}

}  // namespace

BenchSession::BenchSession(const cuda::Driver* driver, cuda::DeviceFacts gpu, Target target, Service service,
                           Workspace workspace, cuda::Stream stream, StreamingFloor floor)
    : driver_(driver),
      gpu_(std::move(gpu)),
      target_(target),
      service_(std::move(service)),
      workspace_(std::move(workspace)),
      stream_(std::move(stream)),
      floor_(std::move(floor)) {}

Result<BenchSession> BenchSession::open() {
  Result<const cuda::Driver*> driver = cuda::Driver::open();
  if (!driver) return std::unexpected(needs_gpu(driver.error()));
  if (Result<cuda::ContextHandle> context = (*driver)->ensure_context(); !context) {
    return std::unexpected(needs_gpu(context.error()));
  }
  Result<cuda::DeviceHandle> device = (*driver)->current_device();
  if (!device) return failure(device);
  Result<cuda::DeviceFacts> gpu = (*driver)->device(*device);
  if (!gpu) return failure(gpu);
  Result<Target> target = Target::from_compute_capability(gpu->major, gpu->minor);
  if (!target) return std::unexpected(needs_gpu(target.error()));
  Result<Service> service = open_service();
  if (!service) return failure(service);
  Result<Workspace> workspace = service->create_workspace();
  if (!workspace) return failure(workspace);
  Result<cuda::Stream> stream = cuda::Stream::create(**driver);
  if (!stream) return failure(stream);
  Result<StreamingFloor> floor = StreamingFloor::create(**driver, *target, *gpu);
  if (!floor) return failure(floor);
  BenchSession session(*driver, std::move(*gpu), *target, std::move(*service), std::move(*workspace),
                       std::move(*stream), std::move(*floor));
  session.open_cublas();
  return session;
}

void BenchSession::open_cublas() {
  Result<Cublas> cublas = Cublas::open(*driver_);
  if (cublas) {
    cublas_ = std::move(*cublas);
  } else {
    cublas_note_ = cublas.error().message;
  }
}

Result<void> BenchSession::reserve(cuda::Buffer& buffer, std::size_t bytes) const {
  if (buffer.bytes() >= bytes) return {};
  buffer = {};  // first, since both may not fit
  Result<cuda::Buffer> larger = cuda::Buffer::allocate(*driver_, bytes);
  if (!larger) return failure(larger);
  buffer = std::move(*larger);
  return {};
}

Result<Rotation> BenchSession::load_weights(std::span<const std::byte> packed) {
  const Rotation rotation = make_rotation(packed.size(), gpu_, pool_limit(gpu_));
  Result<void> loaded = reserve(weights_, rotation.pool_bytes());
  if (loaded) loaded = driver_->copy_to_device(weights_.address(), packed);
  if (loaded) {
    loaded = repeat_over(*driver_, weights_, rotation.stride, rotation.pool_bytes(), stream_);
  }
  return value_after(loaded, rotation);
}

Result<Rotation> BenchSession::load_dense(DataType dtype, std::int64_t n, std::int64_t k) {
  const Rotation rotation = make_rotation(static_cast<std::size_t>(n * k * 2), gpu_, pool_limit(gpu_));
  if (dense_filled_ >= rotation.pool_bytes() && dense_type_ == dtype) return rotation;
  if (dense_pattern_.empty() || dense_type_ != dtype) {
    dense_pattern_ = random_values(kPatternValues, dtype, 1);
    for (std::uint16_t& value : dense_pattern_) value = to_bits(from_bits(value, dtype) * 0x1p-5F, dtype);
  }
  dense_type_ = dtype;
  dense_filled_ = 0;
  const std::size_t bytes = std::max(rotation.pool_bytes(), dense_pattern_.size() * 2);
  Result<void> loaded = reserve(dense_, bytes);
  if (loaded) {
    loaded = driver_->copy_to_device(dense_.address(), std::as_bytes(std::span(dense_pattern_)));
  }
  if (loaded) loaded = repeat_over(*driver_, dense_, dense_pattern_.size() * 2, bytes, stream_);
  if (!loaded) return failure(loaded);
  dense_filled_ = bytes;
  return rotation;
}

Result<void> BenchSession::load_tokens(const std::vector<std::uint16_t>& activations, std::int64_t m,
                                       std::int64_t n) {
  output_bytes_ = static_cast<std::size_t>(m * n * 2);
  Result<void> loaded = reserve(activations_, activations.size() * 2);
  if (loaded) loaded = reserve(output_, output_bytes_);
  if (loaded) loaded = driver_->copy_to_device(activations_.address(), std::as_bytes(std::span(activations)));
  return loaded;
}

Result<void> BenchSession::poison_output() const {
  Result<void> done = driver_->set(output_.address(), 0xff, output_bytes_);
  if (done) done = driver_->synchronize();
  return done;
}

Result<std::vector<std::uint16_t>> BenchSession::read_output() const {
  if (Result<void> done = driver_->synchronize(); !done) return failure(done);
  std::vector<std::uint16_t> result(output_bytes_ / 2);
  if (Result<void> copied =
          driver_->copy_to_host(std::as_writable_bytes(std::span(result)), output_.address());
      !copied) {
    return failure(copied);
  }
  return result;
}

}  // namespace lutsmith::cli
