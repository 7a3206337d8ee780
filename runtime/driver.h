#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "lutsmith/error.h"
#include "runtime/driver_api.h"

namespace lutsmith::cuda {

/// What a GPU is, as the driver tells.
struct DeviceFacts {
  std::string name;
  int major = 0;  ///< compute capability
  int minor = 0;
  int multiprocessors = 0;
  int l2_bytes = 0;
  std::size_t memory_bytes = 0;
};

/// The CUDA driver, opened at run time. Every failed call becomes an Error that names the call, the
/// driver's error name and its text. Thread-safe.
class Driver {
 public:
  /// The process's one driver, initialised. Errors: no library (says which names were tried), one that is
  /// older than 12.0, a toolkit's stub, of another release than the kernel's module or without a GPU (says
  /// where it lies and what to do), or a process that was forked after the first open.
  static Result<const Driver*> open();

  /// Opens one of `libraries` (names or paths) and initialises it; `open` without its memory, for tests.
  static Result<Driver*> load(std::span<const std::string_view> libraries);

  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  const DriverApi& api() const { return api_; }
  int version() const { return version_; }                 ///< 1000 * major + 10 * minor
  const std::string& library() const { return library_; }  ///< path of the file, links followed

  Result<int> device_count() const;
  Result<DeviceFacts> device(int ordinal) const;
  Result<std::string> device_name(DeviceHandle device) const;
  /// Of the current context's device: "0000:1b:00.0".
  Result<std::string> current_pci_address() const;
  Result<int> attribute(DeviceHandle device, DeviceAttribute attribute) const;

  /// The context current in this thread; where there is none, the primary context of device 0, made
  /// current.
  Result<ContextHandle> ensure_context() const;
  /// Makes the primary context of a device current in this thread.
  Result<ContextHandle> use_device(int ordinal) const;
  /// Device of the current context.
  Result<DeviceHandle> current_device() const;
  /// A number that no other context of the process has or will have; handles are used again.
  Result<std::uint64_t> context_id(ContextHandle context) const;
  /// Waits for all work of the current context.
  Result<void> synchronize() const;

  Result<void> set(DevicePointer to, unsigned char value, std::size_t bytes) const;
  Result<void> copy_to_device(DevicePointer to, std::span<const std::byte> from) const;
  Result<void> copy_to_host(std::span<std::byte> to, DevicePointer from) const;
  Result<void> copy_on_device_async(DevicePointer to, DevicePointer from, std::size_t bytes,
                                    StreamHandle stream) const;

  /// Allows a kernel more dynamic shared memory than the default 48 KiB.
  Result<void> allow_dynamic_shared(FunctionHandle function, int bytes) const;

  /// Enqueues a kernel; `parameters` holds a pointer to each of its parameters in order. No allocation and no
  /// synchronisation.
  /// Fills `map`, a CUtensorMap, for boxes of a row-major matrix of 16-bit elements: 128-byte swizzle, zeros
  /// outside the matrix.
  Result<void> describe_matrix(void* map, const void* matrix, std::int64_t rows, std::int64_t columns,
                               std::int64_t row_stride, unsigned int box_rows,
                               unsigned int box_columns) const;

  Result<void> launch(FunctionHandle function, const LaunchConfiguration& configuration,
                      void** parameters) const;

  /// Ok on success, else the Error for a failed `call`.
  Result<void> check(Status status, const char* call) const {
    if (status == kSuccess) [[likely]] {
      return {};
    }
    return std::unexpected(error(status, call));
  }
  Error error(Status status, const char* call) const;

 private:
  Driver(const DriverApi& api, std::string library) : api_(api), library_(std::move(library)) {}
  Result<void> initialise();

  DriverApi api_;
  std::string library_;
  int version_ = 0;
  static constexpr int kMaxDevices = 64;
  mutable std::mutex contexts_mutex_;
  mutable std::array<ContextHandle, kMaxDevices> primary_contexts_{};
};

/// The CUDA driver does not survive fork(): error in a child process of the one that opened it.
/// Costs one load.
Result<void> check_not_forked();

/// Makes a context current for a scope and puts back what was.
class ContextScope {
 public:
  ContextScope(const Driver& driver, ContextHandle context);
  ~ContextScope();
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  const Driver& driver_;
  bool pushed_;
};

/// Owns what a driver call created, and destroys it in the context it was created in.
template <class Handle, auto kDestroy>
class Owner {
 public:
  Owner() = default;
  Owner(const Driver* driver, ContextHandle context, Handle handle)
      : driver_(driver), context_(context), handle_(handle) {}
  Owner(Owner&& other) noexcept
      : driver_(other.driver_), context_(other.context_), handle_(std::exchange(other.handle_, Handle{})) {}
  Owner& operator=(Owner&& other) noexcept {
    std::swap(driver_, other.driver_);
    std::swap(context_, other.context_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owner() {
    // A forked child must not touch its parent's context; at exit the driver may be gone, which it reports.
    if (handle_ == Handle{} || !check_not_forked()) return;
    const ContextScope scope(*driver_, context_);
    (driver_->api().*kDestroy)(handle_);
  }

  Handle get() const { return handle_; }
  const Driver& driver() const { return *driver_; }

 private:
  const Driver* driver_ = nullptr;
  ContextHandle context_ = nullptr;
  Handle handle_{};
};

/// Device memory. Aligned to 256 bytes at least.
class Buffer {
 public:
  Buffer() = default;
  static Result<Buffer> allocate(const Driver& driver, std::size_t bytes);
  /// Allocated and filled from host memory.
  static Result<Buffer> copy_of(const Driver& driver, std::span<const std::byte> bytes);

  DevicePointer address() const { return memory_.get(); }
  void* data() const { return reinterpret_cast<void*>(memory_.get()); }
  std::size_t bytes() const { return bytes_; }

 private:
  Owner<DevicePointer, &DriverApi::memory_free> memory_;
  std::size_t bytes_ = 0;
};

/// A recorded sequence of launches, ready to be replayed.
class Graph {
 public:
  Graph() = default;
  Result<void> launch(StreamHandle stream) const;
  std::size_t nodes() const { return nodes_; }

 private:
  friend class Stream;
  Owner<ExecutableGraphHandle, &DriverApi::graph_executable_destroy> executable_;
  std::size_t nodes_ = 0;
};

/// A stream that does not wait for the default stream.
class Stream {
 public:
  Stream() = default;
  static Result<Stream> create(const Driver& driver);

  StreamHandle get() const { return stream_.get(); }
  Result<void> synchronize() const;

  /// Records what this thread enqueues on the stream from here to `end_capture`, running none of it.
  Result<void> begin_capture() const;
  Result<Graph> end_capture() const;

  /// Records what `enqueue()` (returning Result<void>) puts on the stream.
  template <class Enqueue>
  Result<Graph> capture(Enqueue&& enqueue) const {
    if (Result<void> begun = begin_capture(); !begun) return std::unexpected(std::move(begun.error()));
    Result<void> enqueued = std::forward<Enqueue>(enqueue)();
    Result<Graph> graph = end_capture();  // also after a failure, so that the stream is usable again
    if (!enqueued) return std::unexpected(std::move(enqueued.error()));
    return graph;
  }

 private:
  Owner<StreamHandle, &DriverApi::stream_destroy> stream_;
};

/// A point in a stream, with its time.
class Event {
 public:
  Event() = default;
  static Result<Event> create(const Driver& driver);

  EventHandle get() const { return event_.get(); }
  const Driver& driver() const { return event_.driver(); }
  Result<void> record(StreamHandle stream) const;

 private:
  Owner<EventHandle, &DriverApi::event_destroy> event_;
};

/// Time from one event to another; both must have been reached.
Result<float> elapsed_milliseconds(const Event& start, const Event& end);

/// Kernels loaded from a cubin.
class Module {
 public:
  Module() = default;
  static Result<Module> load(const Driver& driver, std::span<const std::byte> cubin);
  /// The same for who knows which context is current.
  static Result<Module> load(const Driver& driver, ContextHandle current, std::span<const std::byte> cubin);
  Result<FunctionHandle> function(const std::string& name) const;

 private:
  Owner<ModuleHandle, &DriverApi::module_unload> module_;
};

}  // namespace lutsmith::cuda
