#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache/store.h"
#include "lutsmith/service.h"
#include "runtime/compiler.h"
#include "runtime/request.h"

namespace lutsmith {

/// Where sources come from: codegen's functions, or a stand-in.
struct SourceGenerator {
  std::function<Result<std::vector<Schedule>>(const KernelSpec&)> schedules;
  std::function<Result<Source>(const KernelSpec&, const Schedule&)> render;
};
SourceGenerator codegen_sources();

/// How many candidates a request without a schedule tries for one that does not spill registers.
inline constexpr std::size_t kMostCandidatesTried = 6;

/// Finds or makes compiled kernels. The way of a request, each step only where the one before has
/// nothing:
///
///   request -> known requests -> render -> key -> known keys -> another thread's compile -> store
///           -> claim the key, waiting for another process that has it -> store -> compile
///
/// Without a schedule of its own a request gets the first of the model's best candidates that does not
/// spill registers; where all of them do, the first.
///
/// One compile per key however many threads ask; a failure is told to all who waited and forgotten,
/// so that the next request tries again. One compile per key on a host where the store has locks between
/// processes, unless the one that has the lock hangs. Faults of the store cost a compile and are told to
/// `log`. Thread-safe.
class KernelProvider {
 public:
  /// `store` may be null.
  KernelProvider(SourceGenerator sources, std::unique_ptr<const Compiler> compiler,
                 std::unique_ptr<cache::Store> store, LogCallback log,
                 CompilePolicy policy = CompilePolicy::when_needed);

  Result<CompileResult> compile(const Request& request);

  /// Forgets a kernel everywhere, the store included: the driver refused it, so it must be made anew.
  void forget(const Request& request, const std::string& key);

 private:
  using SharedArtifact = std::shared_ptr<const Artifact>;
  struct Found {
    SharedArtifact artifact;
    Origin origin = Origin::memory;
  };
  struct Rendered {
    Schedule schedule;
    Source source;
    cache::Key key;
  };

  /// A request's answer.
  struct Chosen {
    SharedArtifact artifact;
    Schedule schedule;
    Origin origin = Origin::memory;
  };

  Result<std::vector<Schedule>> candidates(const Request& request) const;
  Result<Chosen> choose(const Request& request);
  Result<Rendered> render(const KernelSpec& spec, const Schedule& schedule) const;
  Result<Found> find_or_make(const KernelSpec& spec, const Rendered& rendered);
  Result<Found> make(const KernelSpec& spec, const Rendered& rendered);
  SharedArtifact look_up(const KernelSpec& spec, const Artifact& expected, const cache::Key& key,
                         bool& may_store);
  void keep(const KernelSpec& spec, const Rendered& rendered, const Artifact& artifact);
  void warn(std::string_view message) const;
  void warn_once(const Error& error);

  SourceGenerator sources_;
  std::unique_ptr<const Compiler> compiler_;
  std::unique_ptr<cache::Store> store_;
  LogCallback log_;
  CompilePolicy policy_;
  std::atomic<bool> warned_{false};

  std::shared_mutex requests_mutex_;
  std::unordered_map<Request, CompileResult, RequestHash> requests_;

  std::mutex keys_mutex_;
  std::unordered_map<std::string, SharedArtifact> artifacts_;
  std::unordered_map<std::string, std::shared_future<Result<SharedArtifact>>> under_way_;
};

}  // namespace lutsmith
