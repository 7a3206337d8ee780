#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "choices/database.h"
#include "choices/shared_choices.h"
#include "lutsmith/error.h"
#include "lutsmith/kernel_spec.h"
#include "tuning/tuner.h"

namespace lutsmith::tuning {

struct CampaignOptions {
  TunerOptions tuner = {};
  bool again = false;  ///< tunes what has an entry, too
  /// No spec is begun once so much time has passed.
  std::optional<std::chrono::duration<double>> budget = {};
  choices::SharedChoices* shared = nullptr;  ///< where each entry is sent once it is kept; may be null
};

/// Where a campaign is. `entry` and `error` tell how the spec went, once it is done.
struct CampaignStep {
  std::size_t done = 0;  ///< specs, of `total` that had to be measured
  std::size_t total = 0;
  const KernelSpec* spec = nullptr;
  TuningStep doing = {};
  const choices::Entry* entry = nullptr;
  const Error* error = nullptr;
};

struct CampaignSummary {
  std::size_t requested = 0;  ///< token buckets
  std::size_t present = 0;    ///< had an entry before
  std::size_t tuned = 0;
  std::size_t failed = 0;
  std::size_t left = 0;  ///< not begun: the time was up
  double seconds = 0;
};

/// Buckets of the specs that have no entry in `document`, each once, those of one format side by side, so
/// that weights are made once.
std::vector<KernelSpec> missing_specs(std::span<const KernelSpec> specs, const choices::Document& document);

/// Tunes what is missing, and adds each entry to the database as soon as it is there: whoever interrupts
/// loses only the spec that is being measured, and the next campaign goes on behind it. While one spec is
/// measured the kernels of the next are compiled. Holds the GPU's lock (`address` names the GPU among those
/// of the machine; empty: no lock), so that two campaigns do not disturb each other; waits for another's at
/// most `longest_wait`. A spec that fails is told to `progress` and counted.
///
/// Errors: of the database; unsupported where another campaign holds the GPU for too long.
Result<CampaignSummary> tune_missing(Workbench& bench, const std::string& address,
                                     const choices::Database& database, std::span<const KernelSpec> specs,
                                     const CampaignOptions& options,
                                     const std::function<void(const CampaignStep&)>& progress = {});

}  // namespace lutsmith::tuning
