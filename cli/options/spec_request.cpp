#include "cli/options/spec_request.h"
#include "core/field_text.h"
#include "core/result.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

namespace lutsmith::cli {
namespace {

Result<int> parse_share(std::string_view text) {
  int share = 0;
  const Result<void> parsed = core::parse_number(FieldInfo{"tp", {}, {}, {}}, text, share);
  if (!parsed) return std::unexpected(parsed.error());
  return share;
}

std::vector<std::string_view> split(std::string_view list) {
  std::vector<std::string_view> items;
  while (true) {
    const std::size_t comma = list.find(',');
    items.push_back(list.substr(0, comma));
    if (comma == std::string_view::npos) return items;
    list.remove_prefix(comma + 1);
  }
}

// The values of a comma-separated list, each read by `parse`.
template <class Parse>
auto parse_list(std::string_view text, Parse parse)
    -> Result<std::vector<typename decltype(parse(text))::value_type>> {
  std::vector<typename decltype(parse(text))::value_type> values;
  for (const std::string_view item : split(text)) {
    auto value = parse(item);
    if (!value) return std::unexpected(value.error());
    values.push_back(*value);
  }
  return values;
}

struct Shape {
  std::string model;
  int tp = 1;
  LayerShape layer;
};

Result<std::vector<Shape>> model_shapes(const SpecText& text) {
  const auto models = parse_list(text.model, find_model);
  if (!models) return std::unexpected(models.error());
  const auto shares = parse_list(text.tp, parse_share);
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

Result<Target> parse_target(std::string_view name) {
  return name == "native" ? native_target() : Target::parse(name);
}

/// The values asked for, as the fields read them.
Result<std::vector<std::string>> values_of(std::string_view field, const std::string& text) {
  if (!takes_list(field)) return std::vector{text};
  std::vector<std::string> values;
  if (field == "m" && text == "all") {
    for (const std::int64_t tokens : kTokenBuckets) values.push_back(fmt::to_string(tokens));
    return values;
  }
  for (const std::string_view item : split(text)) values.emplace_back(item);
  if (field != "target") return values;
  for (std::string& name : values) {
    const Result<Target> target = parse_target(name);
    if (!target) return std::unexpected(target.error());
    name = target->name();
  }
  return values;
}

Result<void> set_field(KernelSpec& spec, std::string_view name, std::string_view text) {
  Result<void> done;
  visit_fields(spec, [&](const FieldInfo& field, auto& value) {
    if (field.name == name) done = core::parse_field(field, text, value);
  });
  return done;
}

/// The fields in the order in which their values nest, outermost first.
std::vector<std::string_view> nesting() {
  std::vector<std::string_view> names{"target", "dtype", "table"};
  const KernelSpec spec;
  visit_fields(spec, [&](const FieldInfo& field, const auto& /*value*/) {
    if (std::ranges::find(names, field.name) == names.end()) names.push_back(field.name);
  });
  return names;
}

// Every combination of the lists in `text`; with a model, the shape is yet to be filled in.
Result<std::vector<KernelSpec>> spec_variants(const SpecText& text) {
  std::vector<KernelSpec> specs(1);
  for (const std::string_view name : nesting()) {
    if (!text.model.empty() && !takes_list(name)) continue;
    Result<std::vector<std::string>> values = values_of(name, text[name]);
    if (!values) return failure(values);
    std::vector<KernelSpec> product;
    for (const KernelSpec& spec : specs) {
      for (const std::string& value : *values) {
        product.push_back(spec);
        if (Result<void> set = set_field(product.back(), name, value); !set) return failure(set);
      }
    }
    specs = std::move(product);
  }
  return specs;
}

Result<void> check_shape(const SpecText& text) {
  const bool has_shape = !text["n"].empty() || !text["k"].empty();
  if (!text.model.empty()) {
    if (has_shape) return refuse("model: takes the place of n and k; give either");
    return {};
  }
  if (text["n"].empty()) return refuse("n: is missing; give --n and --k, or --model");
  if (text["k"].empty()) return refuse("k: is missing; give --n and --k, or --model");
  return {};
}

/// The shapes of the models; without one, the spec's own.
Result<std::vector<Shape>> shapes(const SpecText& text, const KernelSpec& spec) {
  if (!text.model.empty()) return model_shapes(text);
  return std::vector<Shape>{{{}, 1, {{}, spec.format.n, spec.format.k}}};
}

}  // namespace

bool takes_list(std::string_view field) { return field != "n" && field != "k"; }

SpecText::SpecText() {
  const KernelSpec spec;
  visit_fields(spec, [this](const FieldInfo& field, const auto& value) {
    fields.emplace(field.name, takes_list(field.name) ? core::field_text(field, value) : std::string());
  });
  fields["m"] = "1";
  fields["target"] = "native";
}

Result<KernelSpec> read_epilogue(const SpecText& text) {
  KernelSpec spec;
  for (const std::string_view field : kEpilogueFields) {
    if (Result<void> set = set_field(spec, field, text[field]); !set) return failure(set);
  }
  return spec;
}

Result<KernelRequests> expand(const SpecText& text, const ScheduleOverride& schedule) {
  if (Result<void> given = check_shape(text); !given) return failure(given);
  const auto variants = spec_variants(text);
  if (!variants) return std::unexpected(variants.error());
  const auto all_shapes = shapes(text, variants->front());
  if (!all_shapes) return std::unexpected(all_shapes.error());
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
