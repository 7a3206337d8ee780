#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cache/stores/memory_store.h"
#include "runtime/kernel_provider.h"
#include "synthetic_cubin.h"

namespace lutsmith {

inline int warps_of(const Schedule& schedule) { return std::get<FewTokensSchedule>(schedule).warps; }

/// What the stand-in compiler does, seen and steered by a test.
struct CompilerScript {
  std::atomic<int> compiles{0};
  std::atomic<bool> fails{false};
  std::atomic<int> failing{0};   ///< the first so many kernels are refused
  std::atomic<int> spilling{0};  ///< the first so many kernels spill
  std::function<void()> during = [] {};
  std::string identity = "stand-in 1";
};

class StandInCompiler final : public Compiler {
 public:
  explicit StandInCompiler(CompilerScript& script) : script_(script) {}
  const std::string& identity() const override { return script_.identity; }
  std::string options(Target /*target*/) const override { return "-plain\n"; }
  Result<CompiledKernel> compile(const std::string& /*source*/, Target target,
                                 const std::string& kernel) const override {
    const int number = ++script_.compiles;
    script_.during();
    if (script_.fails || number <= script_.failing) {
      return std::unexpected(Error{ErrorCode::compilation_failed, "the stand-in refuses", "its log"});
    }
    return CompiledKernel{.cubin = synthetic_cubin(target, kernel),
                          .registers = 99,
                          .static_shared_bytes = 16,
                          .spill_bytes = number <= script_.spilling ? 8 : 0,
                          .log = {}};
  }

 private:
  CompilerScript& script_;
};

/// A store that another provider may share, and that can be made to fail.
struct SharedStore {
  cache::MemoryStore entries;
  std::atomic<bool> fails{false};
  std::atomic<int> gets{0};
  bool has_locks = false;
  std::atomic<cache::LookupState> answer{cache::LookupState::hit};
};

class StandInStore final : public cache::Store {
 public:
  explicit StandInStore(SharedStore& shared, cache::Tier tier = cache::Tier::local)
      : shared_(shared), tier_(tier) {}
  Result<cache::Lookup> get(const cache::Key& key) override {
    ++shared_.gets;
    if (shared_.fails) return std::unexpected(broken());
    if (shared_.answer != cache::LookupState::hit) {
      cache::Lookup lookup;
      lookup.state = shared_.answer;
      lookup.note = "the stand-in entry is odd";
      return lookup;
    }
    Result<cache::Lookup> found = shared_.entries.get(key);
    if (found) found->tier = tier_;
    return found;
  }
  Result<void> put(const cache::Key& key, const cache::Entry& entry) override {
    if (shared_.fails) return std::unexpected(broken());
    return shared_.entries.put(key, entry);
  }
  Result<bool> remove(const cache::Key& key) override { return shared_.entries.remove(key); }
  Result<void> scan(const std::function<bool(const cache::StoredEntry&)>& visit) override {
    return shared_.entries.scan(visit);
  }
  std::unique_ptr<cache::Claim> claim(const cache::Key& /*key*/,
                                      std::chrono::milliseconds /*longest*/) override {
    return shared_.has_locks ? std::make_unique<cache::Claim>() : nullptr;
  }

 private:
  static Error broken() { return {ErrorCode::io_error, "No space left on device", ""}; }
  SharedStore& shared_;
  cache::Tier tier_;
};

class KernelProviderTest : public testing::Test {
 protected:
  std::unique_ptr<KernelProvider> provider(bool with_store = true,
                                           CompilePolicy policy = CompilePolicy::when_needed) {
    return provider(with_store ? std::make_unique<StandInStore>(store_) : nullptr, policy);
  }

  std::unique_ptr<KernelProvider> provider(std::unique_ptr<cache::Store> store, CompilePolicy policy) {
    SourceGenerator sources;
    sources.candidates = [](const KernelSpec&, const choices::Gpu* gpu) {
      return Result<std::vector<choices::Candidate>>(candidates_of(gpu));
    };
    sources.render = [this](const KernelSpec& spec, const Schedule& schedule) -> Result<Source> {
      ++renders_;
      Source source{
          .text = describe(spec) + std::to_string(warps_of(schedule)), .kernel_name = "kern", .launch = {}};
      source.launch.threads = 32 * warps_of(schedule);
      return source;
    };
    return std::make_unique<KernelProvider>(
        sources, std::make_unique<StandInCompiler>(script_), std::move(store),
        KernelProvider::Options{.log =
                                    [this](LogLevel, std::string_view text) {
                                      const std::lock_guard lock(log_mutex_);
                                      log_.emplace_back(text);
                                    },
                                .policy = policy,
                                .jobs = jobs_});
  }

  static Request request(std::int64_t n = 4096) {
    return {.spec = {.format = {.n = n, .k = 4096}, .m = 1, .target = *Target::parse("sm_90a")},
            .choice = {}};
  }

  int stored() {
    int count = 0;
    EXPECT_TRUE(store_.entries.scan([&](const cache::StoredEntry&) { return ++count > 0; }).has_value());
    return count;
  }

  unsigned jobs_ = 0;
  /// The model's two; of GPUs named "tuned", 16 warps in 7 partitions before them.
  static std::vector<choices::Candidate> candidates_of(const choices::Gpu* gpu) {
    std::vector<choices::Candidate> result{{.choice = Schedule(FewTokensSchedule{.warps = 4})},
                                           {.choice = Schedule(FewTokensSchedule{.warps = 8})}};
    if (gpu != nullptr && gpu->name == "tuned") {
      result.insert(result.begin(),
                    {.choice = {FewTokensSchedule{.warps = 16}, 7}, .origin = ChoiceOrigin::tuned});
    }
    return result;
  }

  CompilerScript script_;
  SharedStore store_;
  std::atomic<int> renders_{0};
  std::mutex log_mutex_;
  std::vector<std::string> log_;
};

}  // namespace lutsmith
