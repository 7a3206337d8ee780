#include "runtime/kernel_provider.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "core/result.h"
#include "runtime/compile_jobs.h"
#include "runtime/cubin.h"
#include "runtime/manifest.h"

namespace lutsmith {
namespace {

using Clock = std::chrono::steady_clock;

std::int64_t nanoseconds_since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// More are as good as no limit, and the semaphore counts in a signed number.
constexpr unsigned kMostJobs = 1U << 16U;

/// A claim that took longer had to wait.
constexpr std::chrono::nanoseconds kNoWait = std::chrono::milliseconds{1};

Error not_warmed(const Request& request) {
  return {ErrorCode::not_found,
          fmt::format("{} is not in the cache, and compiling is off; warm it: {}", describe(request.spec),
                      warm_command(request)),
          {}};
}

/// Held while a compile runs.
class Permit {
 public:
  explicit Permit(std::counting_semaphore<>& permits) : permits_(permits) { permits_.acquire(); }
  Permit(const Permit&) = delete;
  Permit& operator=(const Permit&) = delete;
  ~Permit() { permits_.release(); }

 private:
  std::counting_semaphore<>& permits_;
};

CompileResult result_of(const KnownKernel& kernel) {
  return {.artifact = kernel.artifact(), .choice = kernel.choice(), .chosen_by = kernel.chosen_by()};
}

/// All of an artifact that is known before it is compiled.
Artifact expected_artifact(const Source& source, const cache::Key& key) {
  return {.key = key.hex(), .kernel_name = source.kernel_name, .launch = source.launch, .cubin = {}};
}

}  // namespace

SourceGenerator codegen_sources(std::shared_ptr<choices::Source> choices) {
  return {.candidates = [choices = std::move(choices)](
                            const KernelSpec& spec,
                            const choices::Gpu* gpu) { return choices->candidates(spec, gpu); },
          .render = [](const KernelSpec& spec,
                       const Schedule& schedule) { return lutsmith::render(spec, schedule); }};
}

KernelProvider::KernelProvider(SourceGenerator sources, std::unique_ptr<const Compiler> compiler,
                               std::unique_ptr<cache::Store> store, Options options)
    : sources_(std::move(sources)),
      compiler_(std::move(compiler)),
      store_(std::move(store)),
      log_(std::move(options.log)),
      policy_(options.policy),
      recorder_(std::move(options.recorder)),
      permits_(std::min(options.jobs > 0 ? options.jobs : compile_jobs(compile_resources()), kMostJobs)),
      longest_wait_(options.longest_wait) {}

Result<KernelProvider::Answer> KernelProvider::answer(const Request& request, const choices::Gpu* gpu) {
  const KnownKernel* kernel = known(request);
  if (kernel != nullptr && kernel->answers(gpu)) {
    counters_.memory_hits.add();
    return Answer{.result = result_of(*kernel), .known = kernel};
  }
  const Clock::time_point start = Clock::now();
  Result<Chosen> chosen = choose(request, gpu);
  if (!chosen) return failure(chosen);
  CompileResult result{.artifact = std::move(chosen->artifact),
                       .choice = chosen->candidate.choice,
                       .chosen_by = chosen->candidate.origin,
                       .origin = chosen->origin,
                       .milliseconds = milliseconds_since(start)};
  // Another GPU's answer stays: the kernels of all contexts that asked are kept with it.
  if (kernel == nullptr || !kernel->final()) {
    kernel = requests_.insert_or_assign(
        request, KnownKernel(result.artifact, result.choice, result.chosen_by,
                             gpu != nullptr ? std::optional(*gpu) : std::nullopt, chosen->final));
  }
  return Answer{.result = std::move(result), .known = kernel};
}

Result<CompileResult> KernelProvider::compile(const Request& request, const choices::Gpu* gpu) {
  // Not by way of answer(): what is warm takes some 30 ns, and a result within a result is a tenth of that.
  if (const KnownKernel* kernel = known(request); kernel != nullptr && kernel->answers(gpu)) {
    counters_.memory_hits.add();
    return result_of(*kernel);
  }
  Result<Answer> answered = answer(request, gpu);
  if (!answered) return failure(answered);
  return std::move(answered->result);
}

void KernelProvider::forget(const Request& request, const std::string& key) {
  requests_.erase_if([&](const Request& other, const KnownKernel& kernel) {
    return other == request || kernel.artifact()->key == key;
  });
  {
    const std::lock_guard lock(artifacts_mutex_);
    artifacts_.erase(key);
  }
  const std::optional<cache::Key> stored = cache::Key::parse(key);
  if (store_ == nullptr || !stored) return;
  if (Result<bool> removed = store_->remove(*stored); !removed) warn_once(removed.error());
  ++counters_.repairs;
}

bool KernelProvider::flush(std::chrono::milliseconds longest) {
  return store_ == nullptr || store_->flush(longest);
}

ServiceStatistics KernelProvider::statistics() const {
  const cache::StoreStatistics stored = store_ != nullptr ? store_->statistics() : cache::StoreStatistics{};
  const auto seconds = [](std::int64_t nanoseconds) { return static_cast<double>(nanoseconds) * 1e-9; };
  return {.memory_hits = counters_.memory_hits.total(),
          .disk_hits = stored.local_hits,
          .system_hits = stored.system_hits,
          .remote_hits = stored.remote_hits,
          .compiles = counters_.compiles,
          .compile_failures = counters_.compile_failures,
          .refusals = counters_.refusals,
          .waits = counters_.waits,
          .repairs = counters_.repairs,
          .entries_removed = stored.entries_removed,
          .disk_bytes_read = stored.bytes_read,
          .disk_bytes_written = stored.bytes_written,
          .remote_bytes_received = stored.remote_bytes_received,
          .remote_bytes_sent = stored.remote_bytes_sent,
          .remote_failures = stored.remote_failures,
          .remote_skipped = stored.remote_skipped,
          .compile_seconds = seconds(counters_.compile_nanoseconds),
          .wait_seconds = seconds(counters_.wait_nanoseconds)};
}

Result<std::vector<choices::Candidate>> KernelProvider::candidates(const Request& request,
                                                                   const choices::Gpu* gpu) const {
  if (Result<void> valid = validate(request.spec); !valid) return failure(valid);
  if (request.choice) {
    return std::vector{choices::Candidate{.choice = *request.choice, .origin = ChoiceOrigin::given}};
  }
  Result<std::vector<choices::Candidate>> all = sources_.candidates(request.spec, gpu);
  if (all && all->empty()) {
    return std::unexpected(Error{ErrorCode::unsupported,
                                 fmt::format("there is no schedule for {}; give one", describe(request.spec)),
                                 ""});
  }
  return all;
}

/// Whether the next candidate is to be taken where this one cannot be had.
bool KernelProvider::gives_way(const KernelSpec& spec, const choices::Candidate& candidate,
                               const Error& reason) {
  if (candidate.origin != ChoiceOrigin::tuned) return false;
  warn(fmt::format("the tuned choice for {} is not used: {}", describe(spec), reason.message));
  return true;
}

/// The first candidate that does not spill. How many registers a compiler needs cannot be known before it
/// has run; the model's estimate is right but for a few kernels in a thousand. Those that spill stay in the
/// store too, so that the choice is found again without a compile.
Result<KernelProvider::Chosen> KernelProvider::choose(const Request& request, const choices::Gpu* gpu) {
  Result<std::vector<choices::Candidate>> all = candidates(request, gpu);
  if (!all) return failure(all);
  record(request);  // what is not valid is not asked for again
  std::optional<Chosen> first;
  std::optional<Error> passed_over;
  bool final = true;
  Origin origin = Origin::memory;
  std::size_t tried = 0;  // of the model's
  for (const choices::Candidate& candidate : *all) {
    if (candidate.origin == ChoiceOrigin::model && ++tried > kMostCandidatesTried) break;
    Result<Rendered> rendered = render(request.spec, candidate.choice.schedule);
    if (!rendered) return failure(rendered);
    rendered->asked_for = request.choice;
    Result<Found> found = find_or_make(request.spec, *rendered);
    if (!found && first) {
      final = false;  // one that spills is better than none, but the next request may find a better one
      break;
    }
    if (!found && gives_way(request.spec, candidate, found.error())) {
      passed_over = found.error();
      continue;
    }
    if (!found) return failure(found);
    origin = std::max(origin, found->origin);  // the costliest that was needed
    Chosen chosen{std::move(found->artifact), candidate, origin};
    if (chosen.artifact->spill_bytes == 0) return chosen;
    if (!first) first = std::move(chosen);
  }
  if (!first) return std::unexpected(*passed_over);
  first->origin = origin;
  first->final = final;
  return *std::move(first);
}

Result<KernelProvider::Rendered> KernelProvider::render(const KernelSpec& spec,
                                                        const Schedule& schedule) const {
  Result<Source> source = sources_.render(spec, schedule);
  if (!source) return failure(source);
  const Target target = spec.target;
  cache::Key key = cache::Key::of({.source = source->text,
                                   .options = compiler_->options(target),
                                   .compiler = compiler_->identity(),
                                   .target = target.name()});
  return Rendered{schedule, std::move(*source), std::move(key), {}};
}

Result<KernelProvider::Found> KernelProvider::find_or_make(const KernelSpec& spec, const Rendered& rendered) {
  const std::string& key = rendered.key.hex();
  std::promise<Result<SharedArtifact>> promise;
  {
    std::unique_lock lock(artifacts_mutex_);
    const auto [place, mine] = artifacts_.try_emplace(key);
    if (!mine) {
      const std::shared_future<Result<SharedArtifact>> others = place->second;
      lock.unlock();
      const Result<SharedArtifact>& artifact = others.get();
      if (!artifact) return std::unexpected(artifact.error());
      return Found{*artifact, Origin::memory};
    }
    place->second = promise.get_future().share();
  }
  Result<Found> made = make(spec, rendered);
  if (made) {
    promise.set_value(made->artifact);
    return made;
  }
  {
    const std::lock_guard lock(artifacts_mutex_);
    artifacts_.erase(key);  // first, so that whoever is told of the failure can try again
  }
  promise.set_value(std::unexpected(made.error()));
  return made;
}

Result<KernelProvider::Found> KernelProvider::make(const KernelSpec& spec, const Rendered& rendered) {
  // Whatever goes wrong in here, those who wait for it must be told.
  try {
    Artifact artifact = expected_artifact(rendered.source, rendered.key);
    bool may_store = true;
    if (std::optional<Found> stored =
            look_up(spec, artifact, rendered.key, cache::Reach::everywhere, may_store))
      return *stored;
    if (policy_ == CompilePolicy::never) {
      ++counters_.refusals;
      return std::unexpected(not_warmed({spec, rendered.asked_for}));
    }
    // The permit first: who waits for another process's compile leaves his core to it.
    const Permit permit(permits_);
    return compile_or_wait(spec, rendered, std::move(artifact), may_store);
  } catch (const std::exception& thrown) {
    return std::unexpected(Error{ErrorCode::out_of_memory,
                                 fmt::format("compiling {} failed: {}", describe(spec), thrown.what()), ""});
  }
}

Result<KernelProvider::Found> KernelProvider::compile_or_wait(const KernelSpec& spec,
                                                              const Rendered& rendered, Artifact artifact,
                                                              bool may_store) {
  std::unique_ptr<cache::Claim> claimed;
  if (may_store) claimed = claim(rendered.key);
  if (claimed != nullptr) {
    // Another process of this host may have made it while this one waited.
    if (auto stored = look_up(spec, artifact, rendered.key, cache::Reach::local, may_store)) return *stored;
  }
  const Clock::time_point start = Clock::now();
  Result<CompiledKernel> compiled =
      compiler_->compile(rendered.source.text, spec.target, rendered.source.kernel_name);
  if (compiled) {
    // What was cut off must not be kept, nor given to a driver.
    Result<void> usable = check_cubin(compiled->cubin, spec.target, rendered.source.kernel_name);
    if (!usable) compiled = failure(usable);
  }
  ++(compiled ? counters_.compiles : counters_.compile_failures);
  counters_.compile_nanoseconds += nanoseconds_since(start);
  if (!compiled) return failure(compiled);
  artifact.cubin = std::move(compiled->cubin);
  artifact.registers = compiled->registers;
  artifact.static_shared_bytes = compiled->static_shared_bytes;
  artifact.spill_bytes = compiled->spill_bytes;
  if (may_store) keep(spec, rendered, artifact);
  return Found{std::make_shared<const Artifact>(std::move(artifact)), Origin::compiled};
}

std::unique_ptr<cache::Claim> KernelProvider::claim(const cache::Key& key) {
  if (store_ == nullptr) return nullptr;
  const Clock::time_point start = Clock::now();
  std::unique_ptr<cache::Claim> claimed = store_->claim(key, longest_wait_);
  const std::int64_t waited = nanoseconds_since(start);
  if (waited > kNoWait.count()) {
    ++counters_.waits;
    counters_.wait_nanoseconds += waited;
  }
  return claimed;
}

/// The stored artifact, where an entry holds the one that was rendered. `may_store` becomes false where the
/// entry is not to be overwritten.
std::optional<KernelProvider::Found> KernelProvider::look_up(const KernelSpec& spec, const Artifact& expected,
                                                             const cache::Key& key, cache::Reach reach,
                                                             bool& may_store) {
  if (store_ == nullptr) return std::nullopt;
  Artifact artifact;
  const auto judge = [&](const cache::Entry& entry) {
    Result<Artifact> read = read_manifest(entry.manifest, expected);
    const Result<void> good =
        read ? check_cubin(entry.payload, spec.target, read->kernel_name) : Result<void>(failure(read));
    if (good) {
      artifact = *std::move(read);
      return cache::Verdict::usable;
    }
    if (good.error().code == ErrorCode::unsupported) return cache::Verdict::newer;
    ++counters_.repairs;
    warn(fmt::format("the cache entry {}: {}; it is compiled anew", key.hex(), good.error().message));
    return cache::Verdict::unusable;
  };
  Result<cache::Lookup> lookup = store_->get_usable(key, reach, judge);
  if (!lookup) {
    warn_once(lookup.error());
    return std::nullopt;
  }
  switch (lookup->state) {
    case cache::LookupState::miss:
      return std::nullopt;
    case cache::LookupState::newer:
      may_store = false;
      return std::nullopt;
    case cache::LookupState::damaged:
      ++counters_.repairs;
      warn(lookup->note + "; it is compiled anew");
      return std::nullopt;
    case cache::LookupState::hit:
      break;
  }
  artifact.cubin = std::move(lookup->entry.payload);
  return Found{std::make_shared<const Artifact>(std::move(artifact)),
               lookup->tier == cache::Tier::remote ? Origin::remote : Origin::disk};
}

void KernelProvider::keep(const KernelSpec& spec, const Rendered& rendered, const Artifact& artifact) {
  if (store_ == nullptr) return;
  const cache::Entry entry{.manifest = write_manifest(spec, rendered.schedule, artifact,
                                                      {.compiler = compiler_->identity(),
                                                       .options = compiler_->options(spec.target),
                                                       .source_bytes = rendered.source.text.size()}),
                           .payload = artifact.cubin};
  if (Result<void> put = store_->put(rendered.key, entry); !put) warn_once(put.error());
}

void KernelProvider::record(const Request& request) {
  if (recorder_ == nullptr) return;
  const Result<void> recorded = recorder_->record(request);
  if (!recorded && !warned_of_record_.exchange(true)) warn(recorded.error().message);
}

void KernelProvider::warn(std::string_view message) const {
  if (log_) log_(LogLevel::warning, message);
}

// A full or broken disk would say the same at every request.
void KernelProvider::warn_once(const Error& error) {
  if (warned_.exchange(true)) return;
  warn(fmt::format("{}; kernels that cannot be kept on disk stay in memory", error.message));
}

}  // namespace lutsmith
