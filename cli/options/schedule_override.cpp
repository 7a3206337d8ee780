#include "cli/options/schedule_override.h"

#include <fmt/format.h>

namespace lutsmith::cli {
namespace {

Result<bool> parse_switch(const std::string& text) {
  if (text == "on") return true;
  if (text == "off") return false;
  return std::unexpected(Error{ErrorCode::invalid_argument,
                               fmt::format("dependent-launch: '{}' is not known; allowed: on, off", text),
                               {}});
}

// The depth that suits both paths best; one of the other path might not be allowed.
constexpr int kUsualStages = 2;

}  // namespace

bool ScheduleOverride::empty() const {
  return !tile_rows && !tile_tokens && !warps && !weights && !stages && !blocks_per_multiprocessor &&
         !dependent_launch;
}

Result<std::optional<Schedule>> apply(const ScheduleOverride& override, const KernelSpec& spec) {
  if (override.empty()) return std::nullopt;
  const auto candidates = schedules(spec);
  if (!candidates) return std::unexpected(candidates.error());
  if (candidates->empty()) return std::nullopt;  // the service says why
  Schedule result = candidates->front();
  if (override.tile_rows) result.tile_rows = *override.tile_rows;
  if (override.tile_tokens) result.tile_tokens = *override.tile_tokens;
  if (override.warps) result.warps = *override.warps;
  if (override.weights) {
    const auto path = parse_weight_path(*override.weights);
    if (!path) return std::unexpected(path.error());
    if (*path != result.weights) {
      result.stages = kUsualStages;
    }
    result.weights = *path;
  }
  if (override.stages) result.stages = *override.stages;
  if (override.blocks_per_multiprocessor) {
    result.blocks_per_multiprocessor = *override.blocks_per_multiprocessor;
  }
  if (override.dependent_launch) {
    const auto on = parse_switch(*override.dependent_launch);
    if (!on) return std::unexpected(on.error());
    result.dependent_launch = *on;
  }
  if (const auto valid = validate(spec, result); !valid) return std::unexpected(valid.error());
  return result;
}

}  // namespace lutsmith::cli
