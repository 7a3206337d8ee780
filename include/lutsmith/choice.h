#pragma once

#include <string>
#include <string_view>

#include "lutsmith/export.h"
#include "lutsmith/schedule.h"

namespace lutsmith {

/// How a product is multiplied: a kernel's schedule, and into how many Stream-K partitions a launch cuts the
/// work. What tuning chooses.
struct Choice {
  Choice() = default;
  /// A schedule alone is a choice, too: its launches are cut as `partition` does by itself.
  Choice(const Schedule& its_schedule, int its_partitions = 0)  // NOLINT(google-explicit-constructor)
      : schedule(its_schedule), partitions(its_partitions) {}

  Schedule schedule;
  int partitions = 0;  ///< 0: what `partition` makes of the launch's tokens and the GPU

  friend bool operator==(const Choice&, const Choice&) = default;
};

/// Who made a choice.
enum class ChoiceOrigin {
  given,  ///< the caller
  model,  ///< the cost model
  tuned,  ///< measurements on a GPU of the same model
};
LUTSMITH_API std::string_view to_string(ChoiceOrigin origin);

/// One line: the schedule, and the partitions where a number is set.
LUTSMITH_API std::string describe(const Choice& choice);

}  // namespace lutsmith
