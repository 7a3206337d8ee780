#include "kernel_json.h"

#include <fmt/format.h>

namespace lutsmith::tools {

Json group_json(int group) { return group == kPerChannel ? Json(group_name(group)) : Json(group); }

Json to_json(const KernelSpec& spec) {
  return {{"bits", spec.bits},
          {"group", group_json(spec.group)},
          {"n", spec.n},
          {"k", spec.k},
          {"m", spec.m},
          {"dtype", to_string(spec.dtype)},
          {"table", to_string(spec.table)},
          {"target", spec.target.name()}};
}

Json to_json(const Schedule& schedule) {
  return {{"tile_rows", schedule.tile_rows},
          {"tile_tokens", schedule.tile_tokens},
          {"warps", schedule.warps},
          {"weights", to_string(schedule.weights)},
          {"stages", schedule.stages},
          {"blocks_per_multiprocessor", schedule.blocks_per_multiprocessor},
          {"dependent_launch", schedule.dependent_launch}};
}

Json to_json(const LaunchRecipe& launch) {
  return {{"threads", launch.threads},     {"shared_bytes", launch.shared_bytes},
          {"tile_rows", launch.tile_rows}, {"tile_tokens", launch.tile_tokens},
          {"row_tiles", launch.row_tiles}, {"steps_per_tile", launch.steps_per_tile}};
}

Json model_fields(const KernelRequest& request) {
  if (request.model.empty()) return Json::object();
  Json fields{{"model", request.model},
              {"tp", request.tp},
              {"layer", request.layer.name},
              {"count", request.layer.count}};
  if (request.layer.experts > 0) fields["experts"] = request.layer.experts;
  return fields;
}

std::string layer_label(const KernelRequest& request) {
  if (request.model.empty()) return {};
  const std::string share = request.tp == 1 ? "" : fmt::format(" tp{}", request.tp);
  return fmt::format("{}{} {}", request.model, share, request.layer.name);
}

}  // namespace lutsmith::tools
