#include "cli/options/models.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/options/models_json.h"

namespace lutsmith::cli {
namespace {

std::vector<Model> parse_models() {
  std::vector<Model> result;
  for (const auto& entry : nlohmann::json::parse(models_json())) {
    result.push_back({.name = entry.at("model"),
                      .layers = entry.at("layers"),
                      .hidden = entry.at("hidden"),
                      .heads = entry.at("heads"),
                      .kv_heads = entry.at("kv_heads"),
                      .head_size = entry.at("head_size"),
                      .intermediate = entry.at("intermediate"),
                      .experts = entry.value("experts", 0),
                      .experts_per_token = entry.value("experts_per_token", 0)});
  }
  return result;
}

bool can_shard(const Model& model, int tp) {
  return tp >= 1 && model.heads % tp == 0 && model.intermediate % tp == 0 &&
         (model.kv_heads % tp == 0 || tp % model.kv_heads == 0);
}

std::vector<int> possible_shards(const Model& model) {
  std::vector<int> result;
  for (int tp = 1; tp <= model.heads; ++tp) {
    if (can_shard(model, tp)) result.push_back(tp);
  }
  return result;
}

}  // namespace

const std::vector<Model>& models() {
  static const std::vector<Model> parsed = parse_models();
  return parsed;
}

Result<Model> find_model(std::string_view name) {
  const auto found = std::ranges::find(models(), name, &Model::name);
  if (found != models().end()) return *found;
  std::vector<std::string_view> names;
  for (const Model& model : models()) names.push_back(model.name);
  return std::unexpected(
      Error{ErrorCode::invalid_argument,
            fmt::format("model: '{}' is not known; allowed: {}", name, fmt::join(names, ", ")),
            "give --n and --k for a shape of your own, or a manifest to `lutsmith warm`"});
}

Result<std::vector<LayerShape>> layer_shapes(const Model& model, int tp) {
  if (!can_shard(model, tp)) {
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("tp: {} cannot be cut into {} equal shares; allowed: {}",
                                             model.name, tp, fmt::join(possible_shards(model), ", ")),
                                 {}});
  }
  const std::int64_t heads = model.heads / tp;
  const std::int64_t kv_heads = std::max<std::int64_t>(1, model.kv_heads / tp);
  const std::int64_t intermediate = model.intermediate / tp;
  const bool dense = model.experts == 0;
  return std::vector<LayerShape>{
      {"qkv", (heads + 2 * kv_heads) * model.head_size, model.hidden, model.layers},
      {"o", model.hidden, heads * model.head_size, model.layers},
      {dense ? "gate_up" : "w13", 2 * intermediate, model.hidden, model.layers, model.experts},
      {dense ? "down" : "w2", model.hidden, intermediate, model.layers, model.experts},
  };
}

}  // namespace lutsmith::cli
