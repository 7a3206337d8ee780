#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache/stores/store.h"
#include "choices/source.h"
#include "lutsmith/service.h"
#include "runtime/compiler.h"
#include "runtime/known_kernel.h"
#include "runtime/read_mostly_map.h"
#include "runtime/recorder.h"
#include "runtime/request.h"
#include "runtime/striped.h"

namespace lutsmith {

/// Where sources come from: codegen's functions, or a stand-in.
struct SourceGenerator {
  /// The best first, for a GPU where one is known.
  std::function<Result<std::vector<choices::Candidate>>(const KernelSpec&, const choices::Gpu*)> candidates;
  std::function<Result<Source>(const KernelSpec&, const Schedule&)> render;
};
/// `choices` must not be null.
SourceGenerator codegen_sources(std::shared_ptr<choices::Source> choices);

/// How many candidates of the cost model a request without a choice of its own tries for one that does not
/// spill registers.
inline constexpr std::size_t kMostCandidatesTried = 6;

/// Finds or makes compiled kernels. The path of a request, each step only where the one before has
/// nothing:
///
///   request -> known requests -> render -> key -> artifacts, made or being made -> store
///           -> claim the key, waiting for another process that has it -> its nearest tier -> compile
///
/// So memory has two layers: requests with their answers, and keys with their artifacts, which different
/// requests may share.
///
/// Without a choice of its own a request gets the first of the candidates, tuned ones before the model's
/// best, that does not spill registers; where all of them do, the first. A tuned candidate that cannot be
/// had, for want of a compiler or of the right to use it, gives way to the model's, and `log` is told.
///
/// One compile per key however many threads ask; a failure is told to all who waited and forgotten,
/// so that the next request tries again. One compile per key on a host where the store has locks between
/// processes, unless the one that has the lock hangs. Faults of the store cost a compile and are told to
/// `log`. Thread-safe.
class KernelProvider {
 public:
  struct Options {
    LogCallback log = {};
    CompilePolicy policy = CompilePolicy::when_needed;
    unsigned jobs = 0;                             ///< compiles at a time; 0: what cores and memory allow
    std::unique_ptr<Recorder> recorder = nullptr;  ///< told of requests; may be null
    /// How long to wait for another process that makes the same kernel. It takes a fraction of a second; one
    /// that hangs must not hold up everybody else, who then compile for themselves.
    std::chrono::milliseconds longest_wait{10'000};
  };

  /// `store` may be null.
  KernelProvider(SourceGenerator sources, std::unique_ptr<const Compiler> compiler,
                 std::unique_ptr<cache::Store> store, Options options);

  /// What a request got, and how.
  struct Answer {
    CompileResult result;
    /// Where the kernel may be kept as loaded; lives as long as the provider. Its own may be another GPU's.
    const KnownKernel* known = nullptr;
  };
  /// `gpu`: the one that it is to run on; null where none is known.
  Result<Answer> answer(const Request& request, const choices::Gpu* gpu = nullptr);
  Result<CompileResult> compile(const Request& request, const choices::Gpu* gpu = nullptr);
  /// What the request was answered with before; null: nothing yet.
  const KnownKernel* known(const Request& request) const { return requests_.find(request); }
  CompilePolicy policy() const { return policy_; }
  const std::string& compiler() const { return compiler_->identity(); }

  /// Forgets a kernel everywhere, the store included: the driver refused it, so it must be made anew.
  void forget(const Request& request, const std::string& key);

  /// Waits until what was compiled is where it is to be kept, the server included, but no longer than
  /// `longest`. Whether it is.
  bool flush(std::chrono::milliseconds longest);
  ServiceStatistics statistics() const;
  /// For an answer that was given without asking here.
  void count_memory_hit() { counters_.memory_hits.add(); }

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
    std::optional<Choice> asked_for;  ///< by the request; nothing where it was chosen here
  };

  /// A request's answer.
  struct Chosen {
    SharedArtifact artifact;
    choices::Candidate candidate;
    Origin origin = Origin::memory;
    bool final = true;  ///< the same request will always get it
  };

  Result<std::vector<choices::Candidate>> candidates(const Request& request, const choices::Gpu* gpu) const;
  Result<Chosen> choose(const Request& request, const choices::Gpu* gpu);
  bool gives_way(const KernelSpec& spec, const choices::Candidate& candidate, const Error& reason);
  Result<Rendered> render(const KernelSpec& spec, const Schedule& schedule) const;
  Result<Found> find_or_make(const KernelSpec& spec, const Rendered& rendered);
  Result<Found> make(const KernelSpec& spec, const Rendered& rendered);
  Result<Found> compile_or_wait(const KernelSpec& spec, const Rendered& rendered, Artifact artifact,
                                bool may_store);
  std::unique_ptr<cache::Claim> claim(const cache::Key& key);
  std::optional<Found> look_up(const KernelSpec& spec, const Artifact& expected, const cache::Key& key,
                               cache::Reach reach, bool& may_store);
  void keep(const KernelSpec& spec, const Rendered& rendered, const Artifact& artifact);
  void record(const Request& request);
  void warn(std::string_view message) const;
  void warn_once(const Error& error);

  SourceGenerator sources_;
  std::unique_ptr<const Compiler> compiler_;
  std::unique_ptr<cache::Store> store_;
  LogCallback log_;
  CompilePolicy policy_;
  std::unique_ptr<Recorder> recorder_;
  std::counting_semaphore<> permits_;  ///< to compile
  std::chrono::milliseconds longest_wait_;
  std::atomic<bool> warned_{false};
  std::atomic<bool> warned_of_record_{false};

  ReadMostlyMap<Request, KnownKernel, RequestHash> requests_;

  struct Counters {
    StripedCounter memory_hits;
    std::atomic<std::uint64_t> compiles{0};
    std::atomic<std::uint64_t> compile_failures{0};
    std::atomic<std::uint64_t> refusals{0};
    std::atomic<std::uint64_t> waits{0};
    std::atomic<std::uint64_t> repairs{0};
    std::atomic<std::int64_t> compile_nanoseconds{0};
    std::atomic<std::int64_t> wait_nanoseconds{0};
  } counters_;

  std::mutex artifacts_mutex_;
  /// By key: made, or being made by another thread. Failures are forgotten.
  std::unordered_map<std::string, std::shared_future<Result<SharedArtifact>>> artifacts_;
};

}  // namespace lutsmith
