// What a request for a kernel costs: compiled, from disk, from memory, from many threads; and rendering
// alone.
//
//   build/release/bench/service_benchmark
//
// NVRTC is opened once per process, as in a service; its opening is not part of a request. Where there is a
// GPU, `get` is measured too, which loads the kernel on it.
//
// Those of warm requests compile 60 kernels first, unless LUTSMITH_CACHE_PATH names a directory that has
// them:
//
//   lutsmith warm --bits 2,3,4 --group 32,64,128,256,channel --dtype f16,bf16 --m 1,16
//     --n 4096 --k 4096 --target sm_90a

#include <benchmark/benchmark.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lutsmith/codegen.h"
#include "lutsmith/service.h"

namespace lutsmith {
namespace {

constexpr const char* kTargets[] = {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"};

[[noreturn]] void stop(const Error& error) {
  std::fprintf(stderr, "service_benchmark: %s\n%s\n", error.message.c_str(), error.context.c_str());
  std::exit(1);
}

/// Every bits x group x dtype at 4096 x 4096, for 1 and 16 tokens.
std::vector<KernelSpec> specs_for(const char* target) {
  std::vector<KernelSpec> specs;
  for (const int bits : {2, 3, 4}) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      for (const DataType dtype : {DataType::f16, DataType::bf16}) {
        for (const std::int64_t m : {1, 16}) {
          specs.push_back({{bits, group, 4096, 4096, dtype}, m, *Target::parse(target)});
        }
      }
    }
  }
  return specs;
}

/// A directory of its own that is gone afterwards.
class TemporaryCache {
 public:
  TemporaryCache() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lutsmith-bench-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) stop({ErrorCode::io_error, "no temporary directory", pattern});
    path_ = pattern;
  }
  TemporaryCache(const TemporaryCache&) = delete;
  TemporaryCache& operator=(const TemporaryCache&) = delete;
  ~TemporaryCache() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  Service open() const {
    ServiceOptions options;
    options.cache_directory = path_;
    Result<Service> service = Service::open(options);
    if (!service) stop(service.error());
    return *std::move(service);
  }

 private:
  std::filesystem::path path_;
};

/// One request; its seconds. Stops where it was not answered from `expected`.
double request(Service& service, const KernelSpec& spec, Origin expected) {
  const auto begin = std::chrono::steady_clock::now();
  const Result<CompileResult> result = service.compile(spec);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  if (!result) stop(result.error());
  if (result->origin != expected) stop({ErrorCode::io_error, "answered from another tier", describe(spec)});
  return elapsed.count();
}

/// The seconds of all requests so far, and what is reported of them.
class Requests {
 public:
  /// One request for each spec; the seconds of all.
  double pass(Service& service, const std::vector<KernelSpec>& specs, Origin expected) {
    double total = 0;
    for (const KernelSpec& spec : specs) {
      seconds_.push_back(request(service, spec, expected));
      total += seconds_.back();
    }
    return total;
  }

  void report(benchmark::State& state) {
    std::ranges::sort(seconds_);
    state.counters["median_ms"] = seconds_[seconds_.size() / 2] * 1e3;
    state.counters["worst_ms"] = seconds_.back() * 1e3;
    state.counters["kernels"] = static_cast<double>(seconds_.size());
  }

 private:
  std::vector<double> seconds_;
};

/// One pass over the specs is one iteration, each on an empty cache.
void cold_compile(benchmark::State& state, const char* target) {
  const std::vector<KernelSpec> specs = specs_for(target);
  Requests requests;
  for ([[maybe_unused]] auto iteration : state) {
    const TemporaryCache cache;
    Service service = cache.open();
    state.SetIterationTime(requests.pass(service, specs, Origin::compiled));
  }
  requests.report(state);
}

void disk_hit(benchmark::State& state) {
  const std::vector<KernelSpec> specs = specs_for("sm_90a");
  const TemporaryCache cache;
  Service filling = cache.open();
  Requests().pass(filling, specs, Origin::compiled);
  Requests requests;
  for ([[maybe_unused]] auto iteration : state) {
    Service service = cache.open();  // with nothing in memory
    state.SetIterationTime(requests.pass(service, specs, Origin::disk));
  }
  requests.report(state);
}

/// Seconds of single requests, from threads that all ask at once. Each number is that of a short run of
/// requests over its length: reading the clock takes as long as half a request.
template <class Request>
std::vector<double> ask_from_threads(int threads, Request&& request) {
  constexpr std::size_t kRuns = 4000;
  constexpr int kRunLength = 64;
  std::vector<std::vector<double>> seconds(static_cast<std::size_t>(threads));
  std::barrier start(threads);
  std::vector<std::jthread> asking;
  for (std::vector<double>& own : seconds) {
    asking.emplace_back([&] {
      own.reserve(kRuns);
      start.arrive_and_wait();
      for (std::size_t run = 0; run < kRuns; ++run) {
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < kRunLength; ++i) request();
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
        own.push_back(elapsed.count() / kRunLength);
      }
    });
  }
  asking.clear();
  std::vector<double> all;
  for (const std::vector<double>& own : seconds) all.insert(all.end(), own.begin(), own.end());
  std::ranges::sort(all);
  return all;
}

/// Threads that ask a service for kernels it has in memory, taking turns over those of a model.
template <class Ask>
void warm_requests(benchmark::State& state, Ask&& ask) {
  const std::vector<KernelSpec> specs = specs_for("sm_90a");
  std::vector<double> seconds;
  for ([[maybe_unused]] auto iteration : state) {
    seconds = ask_from_threads(static_cast<int>(state.range(0)), [&] {
      thread_local std::size_t turn = 0;
      ask(specs[turn++ % specs.size()]);
    });
    state.SetIterationTime(seconds[seconds.size() / 2]);
  }
  state.counters["median_ns"] = seconds[seconds.size() / 2] * 1e9;
  state.counters["99th_ns"] = seconds[seconds.size() / 100 * 99] * 1e9;
}

/// Puts the kernels into the service's memory, from wherever they are.
void fill(Service& service, const std::vector<KernelSpec>& specs) {
  for (const KernelSpec& spec : specs) {
    if (const Result<CompileResult> result = service.compile(spec); !result) stop(result.error());
  }
}

void memory_hit(benchmark::State& state) {
  const TemporaryCache cache;
  Service service = cache.open();
  fill(service, specs_for("sm_90a"));
  warm_requests(state, [&](const KernelSpec& spec) {
    Result<CompileResult> result = service.compile(spec);
    benchmark::DoNotOptimize(result);
  });
}

void memory_hit_on_gpu(benchmark::State& state) {
  const TemporaryCache cache;
  Service service = cache.open();
  for (const KernelSpec& spec : specs_for("sm_90a")) {
    const Result<Kernel> kernel = service.get(spec);
    if (!kernel) return state.SkipWithError(kernel.error().message.c_str());
  }
  warm_requests(state, [&](const KernelSpec& spec) {
    Result<Kernel> kernel = service.get(spec);
    benchmark::DoNotOptimize(kernel);
  });
}

void render_source(benchmark::State& state) {
  const KernelSpec spec = specs_for("sm_90a").front();
  const Schedule schedule = schedules(spec)->front();
  for ([[maybe_unused]] auto iteration : state) {
    Result<Source> source = render(spec, schedule);
    benchmark::DoNotOptimize(source);
  }
}

}  // namespace
}  // namespace lutsmith

int main(int argc, char** argv) {
  using namespace lutsmith;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const char* target : kTargets) {
    benchmark::RegisterBenchmark((std::string("cold_compile/") + target).c_str(), cold_compile, target)
        ->Iterations(1)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::RegisterBenchmark("disk_hit", disk_hit)
      ->Iterations(20)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
  using Function = void (*)(benchmark::State&);
  for (const auto& [name, function] : {std::pair<const char*, Function>("memory_hit/threads", memory_hit),
                                       std::pair<const char*, Function>("get/threads", memory_hit_on_gpu)}) {
    benchmark::RegisterBenchmark(name, function)
        ->Arg(1)
        ->Arg(16)
        ->Iterations(1)
        ->UseManualTime()
        ->Unit(benchmark::kNanosecond);
  }
  benchmark::RegisterBenchmark("render_source", render_source);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
