#include "cli/output/kernel_json.h"

#include <fmt/format.h>

#include "core/field_json.h"
#include "runtime/recipe_json.h"

namespace lutsmith::cli {

Json group_json(int group) { return lutsmith::group_json<Json>(group); }
Json to_json(const KernelSpec& spec) { return spec_json<Json>(spec); }
Json to_json(const Schedule& schedule) { return schedule_json<Json>(schedule); }
Json to_json(const LaunchRecipe& launch) { return launch_json<Json>(launch); }

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

}  // namespace lutsmith::cli
