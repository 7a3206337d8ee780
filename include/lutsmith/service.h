#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lutsmith/cache.h"
#include "lutsmith/choice.h"
#include "lutsmith/codegen.h"
#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/kernel_spec.h"
#include "lutsmith/matmul.h"

struct CUstream_st;  // what CUstream and cudaStream_t point to

namespace lutsmith {

/// Where an artifact came from.
enum class Origin { memory, disk, remote, compiled };
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

/// What a request for a compiled kernel got, and how.
struct CompileResult {
  std::shared_ptr<const Artifact> artifact;
  Choice choice;  ///< its schedule is the artifact's
  ChoiceOrigin chosen_by = ChoiceOrigin::model;
  Origin origin = Origin::memory;
  double milliseconds = 0;  ///< of this request, rendering included; 0 where it was answered from memory
};

enum class LogLevel { info, warning };
/// Must neither throw nor call the service that calls it.
using LogCallback = std::function<void(LogLevel, std::string_view)>;

/// What a request for a kernel that is not in the cache does.
enum class CompilePolicy {
  when_needed,  ///< compiles it
  never,        ///< fails at once (not_found) and names the command that would warm it
};

/// What a service does with tuned choices: schedules and numbers of partitions that were measured on a GPU of
/// the same model (docs/tuning.md).
enum class TuningMode {
  off,     ///< the cost model chooses
  use,     ///< what was tuned is used: the user's own, then that of directories, the server and the library;
           ///< else the model's
  tune,    ///< the same, and `prepare` measures what is missing; no other call does
  replay,  ///< one document's choices, so that all processes that read it choose alike
};

/// What a replay does about a spec that its document has no choice for.
enum class MissingChoice { error, model };

struct TuningOptions {
  /// LUTSMITH_TUNING ("off", "use", "tune", "replay"), else `use`.
  std::optional<TuningMode> mode = {};
  /// The document that is replayed. LUTSMITH_TUNING_FILE.
  std::filesystem::path document = {};
  /// LUTSMITH_TUNING_MISSING ("error", "model"), else an error.
  std::optional<MissingChoice> missing = {};
  /// The GPU whose tuned choices `compile` follows for a target that is named: all or a part of a name such
  /// as "NVIDIA H100 80GB HBM3". LUTSMITH_GPU, else the machine's first GPU, where there is one.
  std::string gpu = {};
};

/// What is left empty comes from the environment variable named, else from the default.
struct ServiceOptions {
  /// The directory that keeps kernels. LUTSMITH_CACHE_DIR; $XDG_CACHE_HOME/lutsmith, ~/.cache/lutsmith or
  /// /var/tmp/lutsmith-<user id>, the first that can be used. Where none can, kernels are kept in memory and
  /// `log` is told.
  std::filesystem::path cache_directory = {};
  /// What it may grow to. LUTSMITH_CACHE_MAX_BYTES ("500M", "4G") and LUTSMITH_CACHE_MAX_ENTRIES.
  std::optional<CacheLimits> cache_limits = {};
  /// Directories that others warmed, such as an image's; only read, the nearest first. LUTSMITH_CACHE_PATH,
  /// with colons between them.
  std::optional<std::vector<std::filesystem::path>> system_directories = {};
  /// A server that machines share kernels and choices through. LUTSMITH_REMOTE_CACHE (the URL), and with
  /// _MODE (read-write, read-only), _TOKEN, _CERTIFICATE, _KEY and _CA behind that name its other fields.
  std::optional<RemoteCache> remote_cache = {};
  /// Keep nothing outside of this process.
  bool memory_only = false;
  /// NVRTC to open: the library, its folder, or the root of a toolkit. LUTSMITH_NVRTC, else the places that
  /// docs/dependencies.md lists.
  std::filesystem::path nvrtc = {};
  /// `never` for services in which no request may wait for a compiler. LUTSMITH_COMPILE ("when-needed",
  /// "never"), else when needed.
  std::optional<CompilePolicy> compile = {};
  TuningOptions tuning = {};
  /// Compiles at a time; 0: as many as cores and memory allow.
  unsigned compile_jobs = 0;
  /// A file to which every distinct request is written, a line of JSON each, for `lutsmith warm --manifest`.
  /// LUTSMITH_RECORD.
  std::filesystem::path record = {};
  /// Told of what is worth knowing but is no error, from any thread. The library prints nothing itself.
  LogCallback log = {};
};

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

class LoadedKernel;

/// A kernel loaded on the GPU. How it was obtained is told by `Service::compile` and counted by
/// `Service::statistics`. Cheap to copy; launches are safe from many threads.
class LUTSMITH_API Kernel {
 public:
  /// What it was made for: what was asked for, with the m of its token bucket and the GPU it is loaded on.
  const KernelSpec& spec() const;
  /// Tokens it was asked for.
  std::int64_t tokens() const { return tokens_; }
  /// What it was chosen for: a launch with as many tokens as the token bucket's is cut into the choice's
  /// partitions, where it has a number.
  const Choice& choice() const;
  const Schedule& schedule() const { return choice().schedule; }
  const Artifact& artifact() const;
  /// Partitions a launch with `m` tokens and no number of its own uses.
  int default_partitions(std::int64_t m) const;

  /// Enqueues on `stream`, a CUstream or cudaStream_t, null being the default stream: no allocation, no
  /// synchronisation, no file access; legal inside graph capture. Two streams need two workspaces. Arguments
  /// are checked first; nothing is enqueued on error.
  Result<void> launch(const MatmulArguments& arguments, Workspace& workspace, CUstream_st* stream) const;

 private:
  friend class Service;
  Kernel(std::shared_ptr<const LoadedKernel> loaded, std::int64_t tokens)
      : loaded_(std::move(loaded)), tokens_(tokens) {}
  std::shared_ptr<const LoadedKernel> loaded_;
  std::int64_t tokens_;
};

/// What `Service::prepare` did.
struct PrepareSummary {
  std::size_t kernels = 0;   ///< ready
  std::size_t compiled = 0;  ///< of them
  std::size_t tuned = 0;     ///< specs measured
  double seconds = 0;
};

/// Hands out kernels: memory, then disk, then the server, then NVRTC; one compile per key however many
/// threads ask. Thread-safe; a copy shares everything. Not usable in a child that was forked after it was
/// opened: every call says so.
class LUTSMITH_API Service {
 public:
  /// Opens NVRTC and the cache. Needs no GPU. Errors: not_found or unsupported where there is no NVRTC that
  /// can be used; those of the document where choices are to be replayed. A cache that cannot be used is no
  /// error: `log` is told.
  static Result<Service> open(ServiceOptions options = {});

  /// The compiled kernel for a spec, under the choice given, else the one that was tuned for the GPU, else
  /// the first of the cost model's best six that does not spill registers (the first where all do). A spec
  /// without a target is for the GPU at hand; with one, no GPU is needed, and what was tuned counts where the
  /// GPU at hand, or that of `TuningOptions::gpu`, is of that target. Errors: invalid_argument for a spec or
  /// schedule that is not allowed, unsupported for a target that NVRTC does not know, compilation_failed with
  /// its log, corrupt_data where it puts out no kernel; not_found under CompilePolicy::never.
  Result<CompileResult> compile(const KernelSpec& spec, std::optional<Choice> choice = std::nullopt);

  /// The same, loaded on the current CUDA context's GPU (device 0's primary context where none is current),
  /// which the spec need not name. Errors: those of `compile`; not_found without a GPU, invalid_argument
  /// where `spec.target` names another, corrupt_data where the driver refuses the kernel, driver_error or
  /// out_of_memory where it cannot load it.
  Result<Kernel> get(const KernelSpec& spec, std::optional<Choice> choice = std::nullopt);

  /// Loads the kernels of all specs on the current GPU, before the first request wants one; where there is no
  /// GPU, makes or finds them. Where the mode is `tune`, measures first what nothing is known of, a second or
  /// two for each spec, and keeps it for others. Goes on behind a spec that fails; the error, if there is
  /// one, is the first one's, and names it.
  Result<PrepareSummary> prepare(std::span<const KernelSpec> specs);

  /// Zeroed device memory that suits every kernel on the current GPU. Errors: not_found, out_of_memory,
  /// driver_error.
  Result<Workspace> create_workspace();

  /// Bytes of a workspace that suits every kernel on the current GPU. Errors: those of `create_workspace`.
  Result<std::size_t> workspace_bytes();
  /// A workspace over device memory of the caller's: at least `workspace_bytes()`, 256-byte aligned, of the
  /// current context, and there for as long as the workspace launches. All of it must be zero before the
  /// first launch (cudaMemsetAsync ahead in the stream will do). Launches leave it ready for the next; after
  /// one that failed on the GPU, or where others wrote into it, it must be zeroed again. Errors:
  /// invalid_argument for memory that is too small or misaligned; those of `create_workspace`.
  Result<Workspace> workspace_over(void* memory, std::size_t bytes);

  /// The target of the GPU that `get` would use. Errors: not_found without a GPU, unsupported for one that is
  /// too old or too new, driver_error.
  Result<Target> native_target();

  /// Empty when kernels are kept in memory only.
  const std::filesystem::path& cache_directory() const;

  /// The compiler in use, its build included: "NVRTC 13.0 ...".
  const std::string& compiler() const;

  ServiceStatistics statistics() const;

  /// Waits until what was compiled has reached the server too or failed to, but no longer than `longest`.
  /// Whether all of it has. Without it, a service that is destroyed waits three seconds.
  bool flush(std::chrono::milliseconds longest);

 private:
  struct State;
  explicit Service(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace lutsmith
