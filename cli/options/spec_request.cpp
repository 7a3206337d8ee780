#include "cli/options/spec_request.h"
#include "core/result.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>
#include <utility>

namespace lutsmith::cli {
namespace {

Result<std::int64_t> parse_number(std::string_view field, std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    return refuse(fmt::format("{}: '{}' is not a whole number in range", field, text));
  }
  return value;
}

Result<int> parse_int(std::string_view field, std::string_view text) {
  const auto value = parse_number(field, text);
  if (!value) return std::unexpected(value.error());
  if (!std::in_range<int>(*value)) return refuse(fmt::format("{}: {} is out of range", field, *value));
  return static_cast<int>(*value);
}

// The values of a comma-separated list, each read by `parse`.
template <class Parse>
auto parse_list(std::string_view text, Parse parse)
    -> Result<std::vector<typename decltype(parse(text))::value_type>> {
  std::vector<typename decltype(parse(text))::value_type> values;
  while (true) {
    const std::size_t comma = text.find(',');
    auto value = parse(text.substr(0, comma));
    if (!value) return std::unexpected(value.error());
    values.push_back(*value);
    if (comma == std::string_view::npos) return values;
    text.remove_prefix(comma + 1);
  }
}

Result<std::vector<std::int64_t>> parse_tokens(std::string_view list) {
  if (list == "all") return std::vector(kTokenBuckets.begin(), kTokenBuckets.end());
  return parse_list(list, [](std::string_view item) { return parse_number("m", item); });
}

struct Shape {
  std::string model;
  int tp = 1;
  LayerShape layer;
};

Result<std::vector<Shape>> model_shapes(const SpecText& text) {
  const auto models = parse_list(text.model, find_model);
  if (!models) return std::unexpected(models.error());
  const auto shares = parse_list(text.tp, [](std::string_view item) { return parse_int("tp", item); });
  if (!shares) return std::unexpected(shares.error());
  std::vector<Shape> result;
  for (const Model& model : *models) {
    for (const int tp : *shares) {
      const auto layers = layer_shapes(model, tp);
      if (!layers) return std::unexpected(layers.error());
      for (const LayerShape& layer : *layers) result.push_back({model.name, tp, layer});
    }
  }
  return result;
}

Result<std::vector<Shape>> shapes(const SpecText& text) {
  const bool has_shape = !text.n.empty() || !text.k.empty();
  if (!text.model.empty()) {
    if (has_shape) return refuse("model: takes the place of n and k; give either");
    return model_shapes(text);
  }
  if (text.n.empty()) return refuse("n: is missing; give --n and --k, or --model");
  if (text.k.empty()) return refuse("k: is missing; give --n and --k, or --model");
  const auto n = parse_number("n", text.n);
  if (!n) return std::unexpected(n.error());
  const auto k = parse_number("k", text.k);
  if (!k) return std::unexpected(k.error());
  return std::vector<Shape>{{{}, 1, {{}, *n, *k}}};
}

Result<Target> parse_target(std::string_view name) {
  return name == "native" ? native_target() : Target::parse(name);
}

// Every combination of the lists in `text`, for a shape yet to be filled in.
Result<std::vector<KernelSpec>> spec_variants(const SpecText& text) {
  const auto bits = parse_list(text.bits, [](std::string_view item) { return parse_int("bits", item); });
  if (!bits) return std::unexpected(bits.error());
  const auto groups = parse_list(text.group, parse_group);
  if (!groups) return std::unexpected(groups.error());
  const auto tokens = parse_tokens(text.m);
  if (!tokens) return std::unexpected(tokens.error());
  const auto types = parse_list(text.dtype, parse_data_type);
  if (!types) return std::unexpected(types.error());
  const auto tables = parse_list(text.table, parse_table_kind);
  if (!tables) return std::unexpected(tables.error());
  const auto targets = parse_targets(text.target);
  if (!targets) return std::unexpected(targets.error());

  std::vector<KernelSpec> specs(1);
  const auto multiply = [&specs](const auto& values, const auto& field) {
    std::vector<KernelSpec> product;
    for (const KernelSpec& spec : specs) {
      for (const auto& value : values) {
        product.push_back(spec);
        field(product.back()) = value;
      }
    }
    specs = std::move(product);
  };
  multiply(*targets, [](KernelSpec& spec) -> Target& { return spec.target; });
  multiply(*types, [](KernelSpec& spec) -> DataType& { return spec.format.dtype; });
  multiply(*tables, [](KernelSpec& spec) -> TableKind& { return spec.format.table; });
  multiply(*bits, [](KernelSpec& spec) -> int& { return spec.format.bits; });
  multiply(*groups, [](KernelSpec& spec) -> int& { return spec.format.group; });
  multiply(*tokens, [](KernelSpec& spec) -> std::int64_t& { return spec.m; });
  return specs;
}

}  // namespace

Result<KernelRequests> expand(const SpecText& text, const ScheduleOverride& schedule) {
  const auto all_shapes = shapes(text);
  if (!all_shapes) return std::unexpected(all_shapes.error());
  const auto variants = spec_variants(text);
  if (!variants) return std::unexpected(variants.error());
  KernelRequests result;
  result.several = !text.model.empty() || variants->size() > 1;
  for (const KernelSpec& variant : *variants) {
    for (const Shape& shape : *all_shapes) {
      KernelRequest request{shape.model, shape.tp, shape.layer, variant, std::nullopt};
      request.spec.format.n = shape.layer.n;
      request.spec.format.k = shape.layer.k;
      if (const auto valid = validate(request.spec); !valid) return std::unexpected(valid.error());
      auto chosen = apply(schedule, request.spec);
      if (!chosen) return std::unexpected(chosen.error());
      request.schedule = *chosen;
      result.kernels.push_back(std::move(request));
    }
  }
  return result;
}

Result<std::vector<Target>> parse_targets(std::string_view list) { return parse_list(list, parse_target); }

Result<Schedule> schedule_of(const KernelRequest& request) {
  if (request.schedule) return *request.schedule;
  const auto candidates = schedules(request.spec);
  if (!candidates) return std::unexpected(candidates.error());
  return candidates->front();
}

}  // namespace lutsmith::cli
