#pragma once

// The schedules of the fewest threads and stages, which the emulator runs in the least time.

#include "lutsmith/schedule.h"

namespace lutsmith::emulator_test {

/// With two groups along K, and with one.
inline constexpr ManyTokensSchedule kTwoWarpgroups{.tile_rows = 128,
                                                   .tile_tokens = 32,
                                                   .k_groups = 2,
                                                   .commit_steps = 4,
                                                   .activation_stages = 4,
                                                   .weight_stages = 2};
inline constexpr ManyTokensSchedule kOneWarpgroup{.tile_rows = 128,
                                                  .tile_tokens = 32,
                                                  .k_groups = 1,
                                                  .commit_steps = 1,
                                                  .activation_stages = 2,
                                                  .weight_stages = 1};
inline constexpr MultistageSchedule kTwoGroups{.tile_rows = 128,
                                               .tile_tokens = 32,
                                               .warp_rows = 32,
                                               .k_groups = 2,
                                               .stage_columns = 128,
                                               .activation_stages = 2,
                                               .weights = WeightPath::bulk_copy,
                                               .weight_stages = 2};
inline constexpr MultistageSchedule kOneGroup{.tile_rows = 128,
                                              .tile_tokens = 32,
                                              .warp_rows = 16,
                                              .k_groups = 1,
                                              .stage_columns = 64,
                                              .activation_stages = 3};

}  // namespace lutsmith::emulator_test
