#pragma once

#include <optional>
#include <string>

#include "lutsmith/codegen.h"

namespace lutsmith::cli {

/// Fields of a schedule that the caller sets; the others stay as the cost model chose them.
struct ScheduleOverride {
  std::optional<int> tile_rows;
  std::optional<int> tile_tokens;
  std::optional<int> warps;
  std::optional<std::string> weights;
  std::optional<int> stages;
  std::optional<int> blocks_per_multiprocessor;
  std::optional<std::string> dependent_launch;  ///< "on" or "off"

  bool empty() const;
};

/// The first choice of the cost model under `override`, validated; nothing where it is empty.
Result<std::optional<Schedule>> apply(const ScheduleOverride& override, const KernelSpec& spec);

}  // namespace lutsmith::cli
