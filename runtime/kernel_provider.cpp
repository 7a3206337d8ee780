#include "runtime/kernel_provider.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <ranges>
#include <utility>

#include "runtime/cubin.h"
#include "runtime/manifest.h"
#include "runtime/result.h"

namespace lutsmith {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// How long to wait for another process that makes the same kernel. It takes a fraction of a second; one that
/// hangs must not hold up everybody else, who then compile for themselves.
constexpr std::chrono::seconds kLongestWait{10};

Error not_warmed(const KernelSpec& spec) {
  return {ErrorCode::not_found,
          fmt::format(
              "{} is not in the cache, and compiling is off; warm it: lutsmith compile --bits {} --group {} "
              "--n {} --k {} --m {} --dtype {} --table {} --target {}",
              describe(spec), spec.bits, group_name(spec.group), spec.n, spec.k, spec.m,
              to_string(spec.dtype), to_string(spec.table), spec.target.name()),
          {}};
}

/// All of an artifact that is known before it is compiled.
Artifact expected_artifact(const Source& source, const cache::Key& key) {
  return {.key = key.hex(), .kernel_name = source.kernel_name, .launch = source.launch, .cubin = {}};
}

}  // namespace

SourceGenerator codegen_sources() {
  return {.schedules = [](const KernelSpec& spec) { return schedules(spec); },
          .render = [](const KernelSpec& spec,
                       const Schedule& schedule) { return lutsmith::render(spec, schedule); }};
}

KernelProvider::KernelProvider(SourceGenerator sources, std::unique_ptr<const Compiler> compiler,
                               std::unique_ptr<cache::Store> store, LogCallback log, CompilePolicy policy)
    : sources_(std::move(sources)),
      compiler_(std::move(compiler)),
      store_(std::move(store)),
      log_(std::move(log)),
      policy_(policy) {}

Result<CompileResult> KernelProvider::compile(const Request& request) {
  const Clock::time_point start = Clock::now();
  CompileResult result;
  {
    const std::shared_lock lock(requests_mutex_);
    const auto known = requests_.find(request);
    if (known != requests_.end()) result = known->second;
  }
  if (result.artifact != nullptr) {
    result.milliseconds = milliseconds_since(start);
    return result;
  }
  Result<Chosen> chosen = choose(request);
  if (!chosen) return failure(chosen);
  result.artifact = std::move(chosen->artifact);
  result.schedule = chosen->schedule;
  result.origin = Origin::memory;
  {
    const std::unique_lock lock(requests_mutex_);
    requests_.insert_or_assign(request, result);
  }
  result.origin = chosen->origin;
  result.milliseconds = milliseconds_since(start);
  return result;
}

void KernelProvider::forget(const Request& request, const std::string& key) {
  {
    const std::unique_lock lock(requests_mutex_);
    std::erase_if(requests_, [&](const auto& known) { return known.second.artifact->key == key; });
    requests_.erase(request);
  }
  {
    const std::lock_guard lock(keys_mutex_);
    artifacts_.erase(key);
  }
  const std::optional<cache::Key> stored = cache::Key::parse(key);
  if (store_ == nullptr || !stored) return;
  if (Result<bool> removed = store_->remove(*stored); !removed) warn_once(removed.error());
}

Result<std::vector<Schedule>> KernelProvider::candidates(const Request& request) const {
  if (Result<void> valid = validate(request.spec); !valid) return failure(valid);
  if (request.schedule) return std::vector<Schedule>{*request.schedule};
  Result<std::vector<Schedule>> all = sources_.schedules(request.spec);
  if (all && all->empty()) {
    return std::unexpected(Error{ErrorCode::unsupported,
                                 fmt::format("there is no schedule for {}; give one", describe(request.spec)),
                                 ""});
  }
  return all;
}

/// The first candidate that does not spill. How many registers a compiler needs cannot be known before it
/// has run; the model's estimate is right but for a few kernels in a hundred. Those that spill stay in the
/// store too, so that the choice is found again without a compile.
Result<KernelProvider::Chosen> KernelProvider::choose(const Request& request) {
  Result<std::vector<Schedule>> schedules = candidates(request);
  if (!schedules) return failure(schedules);
  std::optional<Chosen> first;
  Origin origin = Origin::memory;
  for (const Schedule& schedule : *schedules | std::views::take(kMostCandidatesTried)) {
    Result<Rendered> rendered = render(request.spec, schedule);
    if (!rendered) return failure(rendered);
    Result<Found> found = find_or_make(request.spec, *rendered);
    if (!found && first) break;  // one that spills is better than none
    if (!found) return failure(found);
    origin = std::max(origin, found->origin);  // the costliest that was needed
    Chosen chosen{std::move(found->artifact), schedule, origin};
    if (chosen.artifact->spill_bytes == 0) return chosen;
    if (!first) first = std::move(chosen);
  }
  first->origin = origin;
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
  return Rendered{schedule, std::move(*source), std::move(key)};
}

Result<KernelProvider::Found> KernelProvider::find_or_make(const KernelSpec& spec, const Rendered& rendered) {
  const std::string& key = rendered.key.hex();
  std::promise<Result<SharedArtifact>> promise;
  {
    std::unique_lock lock(keys_mutex_);
    if (const auto known = artifacts_.find(key); known != artifacts_.end()) {
      return Found{known->second, Origin::memory};
    }
    if (const auto other = under_way_.find(key); other != under_way_.end()) {
      const std::shared_future<Result<SharedArtifact>> future = other->second;
      lock.unlock();
      const Result<SharedArtifact>& artifact = future.get();
      if (!artifact) return std::unexpected(artifact.error());
      return Found{*artifact, Origin::memory};
    }
    under_way_.emplace(key, promise.get_future().share());
  }
  Result<Found> made = make(spec, rendered);
  {
    const std::lock_guard lock(keys_mutex_);
    under_way_.erase(key);  // first, so that nobody waits for ever should the next line run out of memory
    if (made) artifacts_.insert_or_assign(key, made->artifact);
  }
  if (made) {
    promise.set_value(made->artifact);
  } else {
    promise.set_value(std::unexpected(made.error()));
  }
  return made;
}

Result<KernelProvider::Found> KernelProvider::make(const KernelSpec& spec, const Rendered& rendered) {
  // Whatever goes wrong in here, those who wait for it must be told.
  try {
    Artifact artifact = expected_artifact(rendered.source, rendered.key);
    bool may_store = true;
    if (SharedArtifact stored = look_up(spec, artifact, rendered.key, may_store)) {
      return Found{std::move(stored), Origin::disk};
    }
    if (policy_ == CompilePolicy::never) return std::unexpected(not_warmed(spec));
    std::unique_ptr<cache::Claim> claim;
    if (store_ != nullptr && may_store) claim = store_->claim(rendered.key, kLongestWait);
    if (claim != nullptr) {
      // Another process may have made it while this one waited.
      if (SharedArtifact stored = look_up(spec, artifact, rendered.key, may_store)) {
        return Found{std::move(stored), Origin::disk};
      }
    }
    Result<CompiledKernel> compiled =
        compiler_->compile(rendered.source.text, spec.target, rendered.source.kernel_name);
    if (!compiled) return failure(compiled);
    artifact.cubin = std::move(compiled->cubin);
    artifact.registers = compiled->registers;
    artifact.static_shared_bytes = compiled->static_shared_bytes;
    artifact.spill_bytes = compiled->spill_bytes;
    if (may_store) keep(spec, rendered, artifact);
    return Found{std::make_shared<const Artifact>(std::move(artifact)), Origin::compiled};
  } catch (const std::exception& thrown) {
    return std::unexpected(Error{ErrorCode::out_of_memory,
                                 fmt::format("compiling {} failed: {}", describe(spec), thrown.what()), ""});
  }
}

/// The stored artifact, or null. `may_store` becomes false where the entry is not to be overwritten.
KernelProvider::SharedArtifact KernelProvider::look_up(const KernelSpec& spec, const Artifact& expected,
                                                       const cache::Key& key, bool& may_store) {
  if (store_ == nullptr) return nullptr;
  Result<cache::Lookup> lookup = store_->get(key);
  if (!lookup) {
    warn_once(lookup.error());
    return nullptr;
  }
  switch (lookup->state) {
    case cache::LookupState::miss:
      return nullptr;
    case cache::LookupState::newer:
      may_store = false;
      return nullptr;
    case cache::LookupState::damaged:
      warn(lookup->note + "; it is compiled anew");
      return nullptr;
    case cache::LookupState::hit:
      break;
  }
  Result<Artifact> artifact = read_manifest(lookup->entry.manifest, expected);
  if (artifact) {
    artifact->cubin = std::move(lookup->entry.payload);
    Result<void> usable = check_cubin(artifact->cubin, spec.target, artifact->kernel_name);
    if (!usable) artifact = failure(usable);
  }
  if (!artifact) {
    warn(fmt::format("the cache entry {}: {}; it is compiled anew", key.hex(), artifact.error().message));
    return nullptr;
  }
  return std::make_shared<const Artifact>(std::move(*artifact));
}

void KernelProvider::keep(const KernelSpec& spec, const Rendered& rendered, const Artifact& artifact) {
  if (store_ == nullptr) return;
  const cache::Entry entry{
      .manifest = write_manifest(spec, rendered.schedule, artifact, compiler_->identity()),
      .payload = artifact.cubin};
  if (Result<void> put = store_->put(rendered.key, entry); !put) warn_once(put.error());
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
