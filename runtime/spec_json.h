#pragma once

#include "lutsmith/codegen.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith {

// Specs, schedules and recipes as JSON: one set of field names for cache manifests, warm-up manifests and
// what the command line prints. `Json` is nlohmann's json or ordered_json.

/// A group as it stands in a spec: a number, or "channel".
template <class Json>
Json group_json(int group) {
  return group == kPerChannel ? Json(group_name(group)) : Json(group);
}

template <class Json>
Json spec_json(const KernelSpec& spec) {
  return {{"bits", spec.format.bits},
          {"group", group_json<Json>(spec.format.group)},
          {"n", spec.format.n},
          {"k", spec.format.k},
          {"m", spec.m},
          {"dtype", to_string(spec.format.dtype)},
          {"table", to_string(spec.format.table)},
          {"target", spec.target.name()}};
}

template <class Json>
Json schedule_json(const Schedule& schedule) {
  return {{"tile_rows", schedule.tile_rows},
          {"tile_tokens", schedule.tile_tokens},
          {"warps", schedule.warps},
          {"weights", to_string(schedule.weights)},
          {"stages", schedule.stages},
          {"blocks_per_multiprocessor", schedule.blocks_per_multiprocessor},
          {"dependent_launch", schedule.dependent_launch}};
}

template <class Json>
Json launch_json(const LaunchRecipe& launch) {
  return {{"threads", launch.threads},
          {"shared_bytes", launch.shared_bytes},
          {"tile_rows", launch.tile_rows},
          {"tile_tokens", launch.tile_tokens},
          {"row_tiles", launch.row_tiles},
          {"steps_per_tile", launch.steps_per_tile},
          {"blocks_per_multiprocessor", launch.blocks_per_multiprocessor},
          {"dependent_launch", launch.dependent_launch}};
}

}  // namespace lutsmith
