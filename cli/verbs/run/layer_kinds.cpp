#include "cli/verbs/run/layer_kinds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lutsmith::cli {
namespace {

bool is_number(std::string_view part) {
  return !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
}

bool same_kind(const PackedLayer& left, const PackedLayer& right) {
  return left.format == right.format && left.method == right.method;
}

}  // namespace

std::string name_of_kind(std::string_view name) {
  std::string kind;
  while (true) {
    const std::size_t end = std::min(name.find_first_of("./"), name.size());
    const std::string_view part = name.substr(0, end);
    kind += is_number(part) ? "*" : part;
    if (end == name.size()) return kind;
    kind += name[end];
    name.remove_prefix(end + 1);
  }
}

std::string shape_text(const WeightFormat& format) { return fmt::format("{}x{}", format.n, format.k); }

double worse(double left, double right) {
  if (std::isnan(left) || std::isnan(right)) return std::nan("");
  return std::max(left, right);
}

std::vector<LayerKind> layer_kinds(std::span<const LayerBytes> layers) {
  std::vector<LayerKind> kinds;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const PackedLayer& layer = layers[i].layer;
    const std::string name = name_of_kind(layer.name);
    auto kind = std::ranges::find_if(kinds, [&](const LayerKind& known) {
      return known.name == name && same_kind(layers[known.layers.front()].layer, layer);
    });
    if (kind == kinds.end()) {
      kinds.push_back({.name = name, .format = layer.format, .layers = {}});
      kind = std::prev(kinds.end());
    }
    kind->layers.push_back(i);
    kind->before += layers[i].before;
    kind->after += layers[i].after;
    kind->weight_error = worse(kind->weight_error, layer.weight_error);
  }
  // The layers' own name where a kind has only one.
  for (LayerKind& kind : kinds) {
    if (kind.layers.size() == 1) kind.name = layers[kind.layers.front()].layer.name;
  }
  return kinds;
}

}  // namespace lutsmith::cli
