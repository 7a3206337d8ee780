#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/codegen.h"
#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith {

/// Where an artifact came from.
enum class Origin { memory, disk, compiled };
LUTSMITH_API std::string_view to_string(Origin origin);

/// A compiled kernel as the cache keeps it. Needs no GPU.
struct Artifact {
  std::string key;  ///< 64 hexadecimal digits
  std::string kernel_name;
  LaunchRecipe launch;
  std::vector<std::byte> cubin;
  int registers = 0;  ///< per thread
  int static_shared_bytes = 0;
  int spill_bytes = 0;  ///< stores plus loads, as ptxas reports
};

/// What one request did.
struct CompileResult {
  std::shared_ptr<const Artifact> artifact;
  Schedule schedule;
  Origin origin = Origin::memory;
  double milliseconds = 0;  ///< of this request, rendering included
};

enum class LogLevel { info, warning };
using LogCallback = std::function<void(LogLevel, std::string_view)>;

/// What a request for a kernel that is not in the cache does.
enum class CompilePolicy {
  when_needed,  ///< compiles it
  never,        ///< fails at once (not_found) and names the command that would warm it
};

struct ServiceOptions {
  /// Cache directory; empty: LUTSMITH_CACHE_DIR, else $XDG_CACHE_HOME/lutsmith, else
  /// ~/.cache/lutsmith. Where none can be used, kernels are kept in memory and `log` is told.
  std::filesystem::path cache_directory = {};
  /// Keep nothing on disk.
  bool memory_only = false;
  /// NVRTC to open; empty: LUTSMITH_NVRTC, else the places `lutsmith doctor` lists.
  std::filesystem::path nvrtc = {};
  /// `never` for services in which no request may wait for a compiler.
  CompilePolicy compile = CompilePolicy::when_needed;
  /// Told of what is worth knowing but is no error. The library prints nothing itself.
  LogCallback log = {};
};

/// A CUstream or cudaStream_t; null is the default stream.
using Stream = void*;

/// Device memory for partial sums, one per stream that launches concurrently. Moves, does not copy.
class LUTSMITH_API Workspace {
 public:
  Workspace(Workspace&&) noexcept;
  Workspace& operator=(Workspace&&) noexcept;
  ~Workspace();

  std::size_t bytes() const;

 private:
  friend class Service;
  friend class Kernel;
  struct State;
  explicit Workspace(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// One multiplication. Device pointers unless said; matrices row-major.
struct MatmulArguments {
  /// From `pack`, 16-byte aligned. Where the schedule uses dependent launch they are read before the launch
  /// ahead in the stream has finished, so that one must not write them.
  const void* weights = nullptr;
  const void* activations = nullptr;          ///< X [m, k] in the spec's dtype, 16-byte aligned
  void* output = nullptr;                     ///< Y [m, n] in the spec's dtype, 2-byte aligned
  std::span<const std::uint16_t> table = {};  ///< host memory, in the spec's dtype; copied by the launch
  std::int64_t m = 1;                         ///< tokens, any positive number
  std::int64_t activation_stride = 0;         ///< elements between rows of X, a multiple of 8; 0: k
  std::int64_t output_stride = 0;             ///< elements between rows of Y; 0: n
  int partitions = 0;                         ///< Stream-K partitions; 0: the library's choice
};

/// A kernel loaded on the GPU. Cheap to copy; launches are safe from many threads.
class LUTSMITH_API Kernel {
 public:
  const KernelSpec& spec() const;
  const CompileResult& compile_result() const;
  /// Partitions a launch with `m` tokens and no number of its own uses.
  int default_partitions(std::int64_t m) const;

  /// Enqueues on `stream`: no allocation, no synchronisation, no file access; legal inside graph
  /// capture. Two streams need two workspaces. Arguments are checked first; nothing is enqueued on
  /// error.
  Result<void> launch(const MatmulArguments& arguments, Workspace& workspace, Stream stream) const;

 private:
  friend class Service;
  struct State;
  explicit Kernel(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

/// Hands out kernels: memory, then disk, then NVRTC; one compile per key however many threads ask.
/// Thread-safe.
class LUTSMITH_API Service {
 public:
  /// Opens NVRTC and the cache. Needs no GPU.
  static Result<Service> open(ServiceOptions options = {});

  /// The compiled kernel for a spec, under the schedule given or the first of the model's best six that
  /// does not spill registers (the first where all do).
  Result<CompileResult> compile(const KernelSpec& spec, std::optional<Schedule> schedule = std::nullopt);

  /// The same, loaded on the current CUDA context's GPU (its primary context where none is
  /// current). Error where there is no GPU or it is not `spec.target`.
  Result<Kernel> get(const KernelSpec& spec, std::optional<Schedule> schedule = std::nullopt);

  /// Zeroed device memory that suits every kernel on the current GPU.
  Result<Workspace> create_workspace();

  /// The target of the GPU that `get` would use.
  Result<Target> native_target();

  /// Empty when kernels are kept in memory only.
  const std::filesystem::path& cache_directory() const;

 private:
  struct State;
  explicit Service(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace lutsmith
