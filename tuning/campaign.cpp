#include "tuning/campaign.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "core/file_lock.h"
#include "core/result.h"

namespace lutsmith::tuning {
namespace {

using Clock = std::chrono::steady_clock;

/// How long one campaign waits for another on the same GPU.
constexpr std::chrono::minutes kLongestWait{30};

class Campaign {
 public:
  Campaign(Workbench& bench, const choices::Database& database, const CampaignOptions& options,
           const std::function<void(const CampaignStep&)>& progress)
      : bench_(bench),
        tuner_(bench, options.tuner),
        database_(database),
        options_(options),
        progress_(progress) {}

  Result<CampaignSummary> run(const std::vector<KernelSpec>& specs) {
    step_.total = specs.size();
    std::jthread ahead;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (options_.budget && Clock::now() - start_ > *options_.budget) {
        summary_.left = specs.size() - i;
        break;
      }
      if (ahead.joinable()) ahead.join();
      if (i + 1 < specs.size()) ahead = compile_ahead(specs[i + 1]);
      if (Result<void> kept = tune(specs[i]); !kept) return failure(kept);
    }
    summary_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    return summary_;
  }

  CampaignSummary& summary() { return summary_; }

 private:
  std::jthread compile_ahead(const KernelSpec& spec) {
    Result<std::vector<Schedule>> schedules = tuner_.schedules_for(spec);
    if (!schedules || schedules->empty()) return {};
    return std::jthread(
        [this, spec, schedules = std::move(*schedules)] { bench_.compile_ahead(spec, schedules); });
  }

  /// Error where the entry cannot be kept; a spec that cannot be tuned is counted.
  Result<void> tune(const KernelSpec& spec) {
    step_.spec = &spec;
    step_.entry = nullptr;
    step_.error = nullptr;
    Result<choices::Entry> entry = tuner_.tune(spec, [this](const TuningStep& doing) {
      step_.doing = doing;
      tell();
    });
    ++step_.done;
    if (!entry) {
      ++summary_.failed;
      step_.error = &entry.error();
      tell();
      return {};
    }
    ++summary_.tuned;
    step_.entry = &*entry;
    tell();
    choices::Document found(bench_.gpu());
    found.put(*entry);
    Result<void> kept = database_.add(found);
    if (kept && options_.shared != nullptr) options_.shared->send(bench_.gpu(), *entry);
    return kept;
  }

  void tell() const {
    if (progress_) progress_(step_);
  }

  Workbench& bench_;
  Tuner tuner_;
  const choices::Database& database_;
  CampaignOptions options_;
  const std::function<void(const CampaignStep&)>& progress_;
  Clock::time_point start_ = Clock::now();
  CampaignStep step_;
  CampaignSummary summary_;
};

}  // namespace

std::vector<KernelSpec> missing_specs(std::span<const KernelSpec> specs, const choices::Document& document) {
  std::vector<KernelSpec> missing;
  for (const KernelSpec& asked : specs) {
    KernelSpec spec = without_epilogue(asked);  // whose choice serves both
    spec.m = token_bucket(spec.m);
    const bool known = document.find(spec) != nullptr || std::ranges::find(missing, spec) != missing.end();
    if (!known) missing.push_back(spec);
  }
  // Those of a format where the first of them was asked for.
  std::vector<WeightFormat> order;
  for (const KernelSpec& spec : missing) {
    if (std::ranges::find(order, spec.format) == order.end()) order.push_back(spec.format);
  }
  std::ranges::stable_sort(missing, {}, [&](const KernelSpec& spec) {
    return std::ranges::find(order, spec.format) - order.begin();
  });
  return missing;
}

Result<CampaignSummary> tune_missing(Workbench& bench, const std::string& address,
                                     const choices::Database& database, std::span<const KernelSpec> specs,
                                     const CampaignOptions& options,
                                     const std::function<void(const CampaignStep&)>& progress) {
  Result<std::unique_ptr<core::FileLock>> lock = database.lock_gpu(address, kLongestWait);
  if (!lock) return failure(lock);
  // Read under the lock: another campaign may have tuned the same meanwhile.
  const choices::Document known =
      options.again ? choices::Document(bench.gpu()) : database.read_own(bench.gpu());
  const std::vector<KernelSpec> all = missing_specs(specs, choices::Document(bench.gpu()));
  const std::vector<KernelSpec> missing = missing_specs(specs, known);
  Campaign campaign(bench, database, options, progress);
  campaign.summary().requested = all.size();
  campaign.summary().present = all.size() - missing.size();
  return campaign.run(missing);
}

}  // namespace lutsmith::tuning
