#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "cli/command.h"
#include "cli/open_service.h"
#include "cli/options/spec_options.h"
#include "cli/output/kernel_json.h"
#include "cli/output/output.h"
#include "cli/output/progress.h"
#include "cli/verbs/cache/cache_access.h"
#include "cli/verbs/warm/warm_requests.h"
#include "core/parallel.h"
#include "runtime/compile_jobs.h"

namespace lutsmith::cli {
namespace {

/// How long to wait for the server after the last compile.
constexpr std::chrono::minutes kLongestUpload{5};

struct WarmOptions {
  SpecOptions spec;
  std::string manifest;
  int jobs = 0;
  std::string shard = "1/1";
  std::string gpu;

  // A service may bring any number of tokens.
  WarmOptions() { spec.text["m"] = "all"; }
};

struct Summary {
  std::size_t requested = 0;
  std::size_t merged = 0;
  std::size_t compiled = 0;
  std::size_t hits = 0;
  std::size_t failed = 0;
  std::size_t lost = 0;             ///< compiled or found, but in no directory at the end
  std::optional<bool> shared = {};  ///< all that was compiled reached the server; nothing: there is none
  double seconds = 0;
};

/// As many compiles at a time as were asked for, but no more than memory is there for.
unsigned jobs_for(int wanted) {
  CompileResources resources = compile_resources();
  if (wanted > 0) resources.cores = static_cast<unsigned>(wanted);
  const unsigned jobs = compile_jobs(resources);
  if (wanted > 0 && jobs < static_cast<unsigned>(wanted)) {
    print_warning(fmt::format("jobs: {} instead of {}, since {} of memory are free and each may take {}",
                              jobs, wanted, byte_count(resources.memory), byte_count(kCompileBytes)));
  }
  return jobs;
}

/// How many of the kernels are in no directory: it was full, could not be written to, or had to remove one
/// for another. Those that were there before count too: they may be what was removed.
std::size_t count_lost(const std::vector<Result<CompileResult>>& results, const std::string& directory,
                       const cache::Places& places) {
  std::vector<std::unique_ptr<cache::DiskStore>> stores;
  if (auto own = cache::DiskStore::open(directory, {.access = cache::Access::read_only})) {
    stores.push_back(*std::move(own));
  }
  for (SystemDirectory& system : open_system_directories(places)) {
    if (system.store) stores.push_back(*std::move(system.store));
  }
  return static_cast<std::size_t>(std::ranges::count_if(results, [&](const Result<CompileResult>& result) {
    if (!result) return false;
    const auto key = cache::Key::parse(result->artifact->key);
    return !key || std::ranges::none_of(stores, [&](const std::unique_ptr<cache::DiskStore>& store) {
      return std::filesystem::exists(store->path_of(*key));
    });
  }));
}

/// Waits for uploads. Whether all of them arrived; nothing where there is no server to upload to.
std::optional<bool> finish_sharing(Service& service, const cache::Places& places) {
  const bool arrived = service.flush(kLongestUpload);
  if (places.remote.url.empty() || places.remote.read_only) return std::nullopt;
  return arrived;
}

Json request_json(const KernelRequest& request, const Result<CompileResult>& result) {
  Json json = model_fields(request);
  json["spec"] = to_json(request.spec);
  if (!result) {
    json["error"] = to_json(result.error());
    return json;
  }
  json["key"] = result->artifact->key;
  json["cache"] = cache_outcome(result->origin);
  json["milliseconds"] = result->milliseconds;
  return json;
}

std::vector<Result<CompileResult>> compile_all(Service& service, const std::vector<KernelRequest>& requests,
                                               unsigned jobs) {
  std::vector<Result<CompileResult>> results(requests.size());
  Progress progress(requests.size());
  parallel_for(requests.size(), jobs, [&](std::size_t i) {
    results[i] = service.compile(requests[i].spec, requests[i].schedule);
    const std::string outcome =
        results[i] ? fmt::format("{} {:.0f} ms", cache_outcome(results[i]->origin), results[i]->milliseconds)
                   : "failed";
    progress.advance(describe(requests[i].spec) + ": " + outcome);
  });
  return results;
}

/// The kernels that were compiled; those that were there already are only counted.
void print_compiled(const std::vector<KernelRequest>& requests,
                    const std::vector<Result<CompileResult>>& results) {
  using enum TextTable::Align;
  TextTable table(
      {{"compiled", left}, {"layer", left}, {"ms"}, {"registers"}, {"spills"}, {"cubin"}, {"key", left}});
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (!results[i] || results[i]->origin != Origin::compiled) continue;
    const Artifact& artifact = *results[i]->artifact;
    table.add_row({describe(requests[i].spec), layer_label(requests[i]),
                   fmt::format("{:.0f}", results[i]->milliseconds), fmt::to_string(artifact.registers),
                   byte_count(artifact.spill_bytes), byte_count(artifact.cubin.size()),
                   artifact.key.substr(0, 12)});
  }
  table.print();
}

void print_summary(const Summary& summary, const std::vector<KernelRequest>& requests,
                   const std::vector<Result<CompileResult>>& results, const std::string& cache_directory) {
  print_compiled(requests, results);
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i]) continue;
    Error error = results[i].error();
    error.message = describe(requests[i].spec) + ": " + error.message;
    print_error(error, /*json=*/false);
  }
  fmt::print("{}: {} compiled, {}, {} failed in {}\n",
             counted(summary.compiled + summary.hits + summary.failed, "kernel"), summary.compiled,
             counted(summary.hits, "hit"), summary.failed,
             duration(std::chrono::duration<double>(summary.seconds)));
  if (summary.merged > 0) {
    fmt::print("{} of {} requests share a kernel with another\n", summary.merged, summary.requested);
  }
  fmt::print("cache: {}\n", cache_directory.empty() ? "none; the kernels are lost" : cache_directory);
}

void print_warnings(const Summary& summary, const std::string& cache_directory, const CacheLimits& limits) {
  if (summary.lost > 0) {
    print_warning(
        fmt::format("{} not in {}: it is full, cannot be written to, or its limits are too small "
                    "({})",
                    counted(summary.lost, "kernel"), cache_directory, limits_text(limits)));
  }
  if (summary.shared == false) print_warning("not all kernels have reached the remote cache");
}

Result<ExitCode> run_warm(const WarmOptions& options, bool json) {
  const auto start = std::chrono::steady_clock::now();
  const auto shard = parse_shard(options.shard);
  if (!shard) return std::unexpected(shard.error());
  const auto requested = warm_requests(options.spec, options.manifest);
  if (!requested) return std::unexpected(requested.error());
  const cache::Places places = cache::places(cache::PlacesEnvironment::of_process());
  const choices::Database tuned(places.own.empty() ? std::filesystem::path() : places.own.front(),
                                places.system);
  const auto wanted = with_tuned_choices(*requested, tuned, options.gpu, open_shared_choices(places));
  if (!wanted) return std::unexpected(wanted.error());
  const auto unique = without_duplicates(*wanted);
  if (!unique) return std::unexpected(unique.error());
  const std::vector<KernelRequest> mine = part_of(*unique, *shard);
  const unsigned jobs = jobs_for(options.jobs);
  ServiceOptions service_options;
  service_options.compile_jobs = jobs;
  service_options.compile = CompilePolicy::when_needed;  // whatever LUTSMITH_COMPILE says
  service_options.tuning.mode = TuningMode::off;         // what was tuned is asked for by name
  auto service = open_service(std::move(service_options));
  if (!service) return std::unexpected(service.error());
  const auto results = compile_all(*service, mine, jobs);

  Summary summary{.requested = wanted->size(), .merged = wanted->size() - unique->size()};
  Json kernels = Json::array();
  for (std::size_t i = 0; i < results.size(); ++i) {
    ++(!results[i]                              ? summary.failed
       : results[i]->origin == Origin::compiled ? summary.compiled
                                                : summary.hits);
    kernels.push_back(request_json(mine[i], results[i]));
  }
  summary.shared = finish_sharing(*service, places);
  const std::string cache_directory = service->cache_directory().string();
  if (!cache_directory.empty()) summary.lost = count_lost(results, cache_directory, places);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  summary.seconds = elapsed.count();
  if (json) {
    print_json({{"requested", summary.requested},
                {"merged", summary.merged},
                {"compiled", summary.compiled},
                {"hits", summary.hits},
                {"failed", summary.failed},
                {"lost", summary.lost},
                {"shared", summary.shared ? Json(*summary.shared) : Json()},
                {"jobs", jobs},
                {"seconds", summary.seconds},
                {"shard", options.shard},
                {"cache_directory", cache_directory},
                {"kernels", kernels}});
  } else {
    print_summary(summary, mine, results, cache_directory);
  }
  print_warnings(summary, cache_directory, places.limits);
  // Kernels that no directory keeps are gone with this process: nothing was warmed.
  const bool kept = !cache_directory.empty() && summary.lost == 0;
  return summary.failed == 0 && kept ? ExitCode::success : ExitCode::work_failed;
}

}  // namespace

void add_warm(CLI::App& app, Context& context) {
  const auto options = std::make_shared<WarmOptions>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "warm",
       .description = "Fill the cache with every kernel a model or a manifest needs; needs no GPU",
       .examples =
           "  lutsmith warm --model llama3.1-8b --tp 1,2 --m 1,8,16 --target sm_80,sm_90a\n"
           "  lutsmith warm --manifest kernels.json --target sm_90a --jobs 4\n"
           "  lutsmith warm --model llama3.1-70b --target sm_90a --shard 2/3   (the second of three "
           "machines)\n"
           "  lutsmith warm --model llama3.1-8b,qwen3-8b --manifest kernels.json --target sm_90a\n"
           "A job array takes a shard each: --shard $((SLURM_ARRAY_TASK_ID + 1))/$SLURM_ARRAY_TASK_COUNT, "
           "or\n"
           "--shard $((JOB_COMPLETION_INDEX + 1))/8 in a Kubernetes Job of 8 completions.\n"
           "A manifest is a JSON array of specs, or one spec a line, as LUTSMITH_RECORD and --record write\n"
           "it. Fields are named as the options; all but n and k take a value or an array; what is\n"
           "left out comes from the command line:\n"
           "  [{\"n\": 4096, \"k\": 4096, \"bits\": [3, 4], \"group\": 64, \"m\": [1, 16], \"target\": "
           "\"sm_90a\"},\n"
           "   {\"model\": \"llama3.1-8b\", \"tp\": 2}]",
       .work = [options, &context] { return run_warm(*options, context.json); }});
  verb.add_option("--manifest", options->manifest, "JSON file with a list of specs (see below)")
      ->type_name("FILE");
  verb.add_option("--jobs", options->jobs,
                  "Kernels to compile at a time; 0: one per core, as far as memory allows")
      ->check(CLI::Range(0, 1024))
      ->type_name("INT");
  verb.add_option("--shard", options->shard, "I/N: only the I-th of N equal parts of the work, I from 1 to N")
      ->capture_default_str()
      ->type_name("I/N");
  verb.add_option("--gpu", options->gpu,
                  "Of the choices that were tuned, only those of this GPU: all or a part of its name")
      ->type_name("NAME");
  add_spec_options(verb, options->spec);
}

}  // namespace lutsmith::cli
