#pragma once

#include "lutsmith/codegen.h"

namespace lutsmith {

/// What a kernel is launched with, as JSON. `Json` is nlohmann's json or ordered_json.
template <class Json>
Json launch_json(const LaunchRecipe& launch) {
  Json json = {{"threads", launch.threads},
               {"shared_bytes", launch.shared_bytes},
               {"tile_rows", launch.tile_rows},
               {"tile_tokens", launch.tile_tokens},
               {"row_tiles", launch.row_tiles},
               {"steps_per_tile", launch.steps_per_tile},
               {"blocks_per_multiprocessor", launch.blocks_per_multiprocessor},
               {"dependent_launch", launch.dependent_launch}};
  // Only where there is one: what was stored before there were any reads the same.
  if (launch.activation_box_tokens > 0) json["activation_box_tokens"] = launch.activation_box_tokens;
  if (launch.cluster_blocks > 1) json["cluster_blocks"] = launch.cluster_blocks;
  if (launch.whole_tiles_only) json["whole_tiles_only"] = true;
  return json;
}

}  // namespace lutsmith
