#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "lutsmith/codegen.h"

namespace lutsmith::cli {

/// Fields by name, with their values as they are written on the command line.
using FieldTexts = std::map<std::string, std::string, std::less<>>;

/// Fields of a schedule that the caller sets; the others stay as the cost model chose them.
struct ScheduleOverride {
  FieldTexts fields;
  std::string family = {};  ///< whose schedule it is; empty: the family that the cost model chose

  bool empty() const { return fields.empty() && family.empty(); }
};

/// The first choice of the cost model (of the family that `override` names) under `override`, validated;
/// nothing where it is empty.
Result<std::optional<Schedule>> apply(const ScheduleOverride& override, const KernelSpec& spec);

}  // namespace lutsmith::cli
