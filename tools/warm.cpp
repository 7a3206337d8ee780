#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <memory>
#include <ranges>
#include <set>
#include <utility>

#include "command.h"
#include "kernel_json.h"
#include "manifest.h"
#include "open_service.h"
#include "output.h"
#include "parallel.h"
#include "progress.h"
#include "runtime/kernel_provider.h"
#include "spec_options.h"

namespace lutsmith::tools {
namespace {

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
  std::vector<SpecText> texts;
  if (options.manifest.empty()) {
    texts.push_back(options.spec.text);
  } else {
    if (!options.spec.text.model.empty() || !options.spec.text.n.empty() || !options.spec.text.k.empty()) {
      return std::unexpected(Error{
          ErrorCode::invalid_argument, "manifest: takes the place of --model, --n and --k; give either", {}});
    }
    auto entries = read_manifest(options.manifest, options.spec.text);
    if (!entries) return std::unexpected(entries.error());
    texts = std::move(*entries);
  }
  std::vector<KernelRequest> result;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    auto requests = expand(texts[i], options.spec.schedule);
    if (!requests) {
      Error error = requests.error();
      if (!options.manifest.empty()) error.message = fmt::format("manifest entry {}: {}", i, error.message);
      return std::unexpected(std::move(error));
    }
    for (KernelRequest& request : requests->kernels) result.push_back(std::move(request));
  }
  return result;
}

// Requests with the same source for the same target have the same key: one of them is enough. Merged
// before the work is cut into shards, so that no two shards compile the same kernel.
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
  double seconds = 0;
};

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

void print_summary(const Summary& summary, const std::vector<KernelRequest>& requests,
                   const std::vector<Result<CompileResult>>& results, const std::string& cache_directory) {
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
  auto service = open_service();
  if (!service) return std::unexpected(service.error());
  const auto results = compile_all(*service, mine, job_count(options.jobs));

  Summary summary{.requested = requested->size(), .merged = requested->size() - unique->size()};
  Json kernels = Json::array();
  for (std::size_t i = 0; i < results.size(); ++i) {
    ++(!results[i]                              ? summary.failed
       : results[i]->origin == Origin::compiled ? summary.compiled
                                                : summary.hits);
    kernels.push_back(request_json(mine[i], results[i]));
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  summary.seconds = elapsed.count();
  const std::string cache_directory = service->cache_directory().string();
  if (json) {
    print_json({{"requested", summary.requested},
                {"merged", summary.merged},
                {"compiled", summary.compiled},
                {"hits", summary.hits},
                {"failed", summary.failed},
                {"seconds", summary.seconds},
                {"shard", options.shard},
                {"cache_directory", cache_directory},
                {"kernels", kernels}});
  } else {
    print_summary(summary, mine, results, cache_directory);
  }
  // Kernels that no directory keeps are gone with this process: nothing was warmed.
  return summary.failed > 0 || cache_directory.empty() ? ExitCode::work_failed : ExitCode::success;
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
           "A manifest is a JSON array of specs. Fields are named as the options; all but n, k and model\n"
           "take a value or an array; what is left out comes from the command line:\n"
           "  [{\"n\": 4096, \"k\": 4096, \"bits\": [3, 4], \"group\": 64, \"m\": [1, 16], \"target\": "
           "\"sm_90a\"},\n"
           "   {\"model\": \"llama3.1-8b\", \"tp\": 2}]",
       .work = [options, &context] { return run_warm(*options, context.json); }});
  verb.add_option("--manifest", options->manifest, "JSON file with a list of specs (see below)")
      ->type_name("FILE");
  verb.add_option("--jobs", options->jobs, "Kernels to compile at a time; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->type_name("INT");
  verb.add_option("--shard", options->shard, "I/N: only the I-th of N equal parts of the work, I from 1 to N")
      ->capture_default_str()
      ->type_name("I/N");
  add_spec_options(verb, options->spec);
}

}  // namespace lutsmith::tools
