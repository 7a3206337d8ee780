#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <ranges>
#include <set>
#include <utility>

#include "cache/disk_store.h"
#include "command.h"
#include "kernel_json.h"
#include "manifest.h"
#include "open_service.h"
#include "output.h"
#include "parallel.h"
#include "progress.h"
#include "runtime/compile_jobs.h"
#include "runtime/kernel_provider.h"
#include "spec_options.h"

namespace lutsmith::tools {
namespace {

/// How long to wait for the server after the last compile.
constexpr std::chrono::minutes kLongestUpload{5};

struct WarmOptions {
  SpecOptions spec;
  std::string manifest;
  int jobs = 0;
  std::string shard = "1/1";
};

/// Part `index` (from 1) of `count` equal parts of the work.
struct Shard {
  std::size_t index = 1;
  std::size_t count = 1;
};

Result<Shard> parse_shard(const std::string& text) {
  Shard shard;
  const char* end = text.data() + text.size();
  const auto index = std::from_chars(text.data(), end, shard.index);
  if (index.ec == std::errc{} && index.ptr != end && *index.ptr == '/') {
    const auto count = std::from_chars(index.ptr + 1, end, shard.count);
    if (count.ec == std::errc{} && count.ptr == end && shard.index >= 1 && shard.index <= shard.count) {
      return shard;
    }
  }
  return std::unexpected(Error{ErrorCode::invalid_argument,
                               fmt::format("shard: '{}' is not allowed; allowed: 1/4, 2/4, ... 4/4", text),
                               {}});
}

Result<std::vector<KernelRequest>> all_requests(const WarmOptions& options) {
  const SpecText& given = options.spec.text;
  std::vector<ManifestEntry> entries;
  if (!options.manifest.empty()) {
    // Shapes of the command line are asked for beside those of the manifest, not by its entries.
    ManifestEntry defaults{.text = given, .schedule = options.spec.schedule};
    defaults.text.model.clear();
    defaults.text.n.clear();
    defaults.text.k.clear();
    auto read = read_manifest(options.manifest, defaults);
    if (!read) return std::unexpected(read.error());
    entries = *std::move(read);
  }
  const std::size_t in_manifest = entries.size();
  if (options.manifest.empty() || !given.model.empty() || !given.n.empty() || !given.k.empty()) {
    entries.push_back({.text = given, .schedule = options.spec.schedule});
  }
  std::vector<KernelRequest> result;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    auto requests = expand(entries[i].text, entries[i].schedule);
    if (!requests) {
      Error error = requests.error();
      if (i < in_manifest) error.message = fmt::format("manifest entry {}: {}", i, error.message);
      return std::unexpected(std::move(error));
    }
    for (KernelRequest& request : requests->kernels) result.push_back(std::move(request));
  }
  return result;
}

/// All the service may compile for a request, in its order: which one it keeps depends on what spills.
Result<std::string> sources_tried(const KernelRequest& request) {
  std::vector<Schedule> candidates;
  if (request.schedule) {
    candidates = {*request.schedule};
  } else {
    auto all = schedules(request.spec);
    if (!all) return std::unexpected(all.error());
    candidates = *std::move(all);
  }
  std::string texts;
  for (const Schedule& schedule : candidates | std::views::take(kMostCandidatesTried)) {
    const auto source = render(request.spec, schedule);
    if (!source) return std::unexpected(source.error());
    texts += source->text;
  }
  return texts;
}

// Requests with the same source for the same target have the same key: one of them is enough. Merged
// before the work is cut into shards, so that no two shards compile the same kernel.
Result<std::vector<KernelRequest>> without_duplicates(const std::vector<KernelRequest>& requests) {
  std::set<std::pair<std::string_view, std::string>> seen;
  std::vector<KernelRequest> result;
  for (const KernelRequest& request : requests) {
    auto sources = sources_tried(request);
    if (!sources) return std::unexpected(sources.error());
    if (seen.emplace(request.spec.target.name(), *std::move(sources)).second) result.push_back(request);
  }
  return result;
}

std::vector<KernelRequest> part(const std::vector<KernelRequest>& requests, Shard shard) {
  std::vector<KernelRequest> result;
  for (std::size_t i = shard.index - 1; i < requests.size(); i += shard.count) result.push_back(requests[i]);
  return result;
}

struct Summary {
  std::size_t requested = 0;
  std::size_t merged = 0;
  std::size_t compiled = 0;
  std::size_t hits = 0;
  std::size_t failed = 0;
  std::size_t lost = 0;  ///< compiled, but the directory did not keep them
  bool shared = true;    ///< what was compiled reached the server, where there is one
  double seconds = 0;
};

/// As many compiles at a time as were asked for, but no more than memory is there for.
unsigned jobs_for(int wanted) {
  CompileResources resources = compile_resources();
  if (wanted > 0) resources.cores = static_cast<unsigned>(wanted);
  const unsigned jobs = compile_jobs(resources);
  if (wanted > 0 && jobs < static_cast<unsigned>(wanted)) {
    print_warning(fmt::format("jobs: {} instead of {}, since {} of memory are free and each may take {}",
                              jobs, wanted, byte_count(static_cast<double>(resources.memory)),
                              byte_count(static_cast<double>(kCompileBytes))));
  }
  return jobs;
}

/// How many of the kernels compiled are not in the directory: it was full, or could not be written to.
std::size_t count_lost(const std::vector<Result<CompileResult>>& results,
                       const std::filesystem::path& directory) {
  const auto store = cache::DiskStore::open(directory, {.access = cache::Access::read_only});
  return static_cast<std::size_t>(std::ranges::count_if(results, [&](const Result<CompileResult>& result) {
    if (!result || result->origin != Origin::compiled) return false;
    const auto key = cache::Key::parse(result->artifact->key);
    return !store || !key || !std::filesystem::exists((*store)->path_of(*key));
  }));
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
                   byte_count(artifact.spill_bytes), byte_count(static_cast<double>(artifact.cubin.size())),
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
  fmt::print("{} kernels: {} compiled, {} hits, {} failed in {}\n",
             summary.compiled + summary.hits + summary.failed, summary.compiled, summary.hits, summary.failed,
             duration(std::chrono::duration<double>(summary.seconds)));
  if (summary.merged > 0) {
    fmt::print("{} of {} requests share a kernel with another\n", summary.merged, summary.requested);
  }
  fmt::print("cache: {}\n", cache_directory.empty() ? "none; the kernels are lost" : cache_directory);
  if (summary.lost > 0) {
    print_warning(
        fmt::format("{} of the kernels compiled are not in {}: it is full, cannot be written to, or "
                    "its limits are too small",
                    summary.lost, cache_directory));
  }
  if (!summary.shared) print_warning("not all kernels have reached the remote cache");
}

Result<ExitCode> run_warm(const WarmOptions& options, bool json) {
  const auto start = std::chrono::steady_clock::now();
  const auto shard = parse_shard(options.shard);
  if (!shard) return std::unexpected(shard.error());
  const auto requested = all_requests(options);
  if (!requested) return std::unexpected(requested.error());
  const auto unique = without_duplicates(*requested);
  if (!unique) return std::unexpected(unique.error());
  const std::vector<KernelRequest> mine = part(*unique, *shard);
  const unsigned jobs = jobs_for(options.jobs);
  ServiceOptions service_options;
  service_options.compile_jobs = jobs;
  auto service = open_service(std::move(service_options));
  if (!service) return std::unexpected(service.error());
  const auto results = compile_all(*service, mine, jobs);

  Summary summary{.requested = requested->size(), .merged = requested->size() - unique->size()};
  Json kernels = Json::array();
  for (std::size_t i = 0; i < results.size(); ++i) {
    ++(!results[i]                              ? summary.failed
       : results[i]->origin == Origin::compiled ? summary.compiled
                                                : summary.hits);
    kernels.push_back(request_json(mine[i], results[i]));
  }
  summary.shared = service->flush(kLongestUpload);
  const std::string cache_directory = service->cache_directory().string();
  if (!cache_directory.empty()) summary.lost = count_lost(results, cache_directory);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  summary.seconds = elapsed.count();
  if (json) {
    print_json({{"requested", summary.requested},
                {"merged", summary.merged},
                {"compiled", summary.compiled},
                {"hits", summary.hits},
                {"failed", summary.failed},
                {"lost", summary.lost},
                {"shared", summary.shared},
                {"jobs", jobs},
                {"seconds", summary.seconds},
                {"shard", options.shard},
                {"cache_directory", cache_directory},
                {"kernels", kernels}});
  } else {
    print_summary(summary, mine, results, cache_directory);
  }
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
  add_spec_options(verb, options->spec);
}

}  // namespace lutsmith::tools
