#include "cli/verbs/quantize/quantize_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "cli/output/kernel_json.h"
#include "cli/output/printable.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith::cli {
namespace {

using enum TextTable::Align;

// With the heads, the totals and the notes this is a screen.
constexpr std::size_t kShownKinds = 8;
constexpr std::size_t kShownReasons = 7;
constexpr std::size_t kNameColumn = 44;
constexpr std::size_t kExampleColumn = 46;

// ---- Layers
// ------------------------------------------------------------------------------------------------------

/// What is the same for all layers stands below the table and not in a column.
struct Varying {
  bool bits = false;
  bool group = false;
  bool method = false;
  bool dtype = false;

  explicit Varying(const std::vector<LayerBytes>& layers) {
    const PackedLayer& first = layers.front().layer;
    for (const auto& [layer, before, after] : layers) {
      bits = bits || layer.format.bits != first.format.bits;
      group = group || layer.format.group != first.format.group;
      method = method || layer.method != first.method;
      dtype = dtype || layer.format.dtype != first.format.dtype;
    }
  }

  std::vector<std::string> cells(const PackedLayer& layer) const {
    return {bits ? fmt::to_string(layer.format.bits) : "", group ? group_name(layer.format.group) : "",
            method ? layer.method : "", dtype ? std::string(to_string(layer.format.dtype)) : ""};
  }

  /// "nf, 4 bits, group 64, f16", without what varies.
  std::string rest(const PackedLayer& layer) const {
    std::string text;
    const auto add = [&text](bool varies, const std::string& part) {
      if (!varies) text += (text.empty() ? "" : ", ") + part;
    };
    add(method, layer.method);
    add(bits, fmt::format("{} bits", layer.format.bits));
    add(group, fmt::format("group {}", group_name(layer.format.group)));
    add(dtype, std::string(to_string(layer.format.dtype)));
    return text;
  }
};

void add_row(TextTable& table, const std::string& name, std::size_t count, const PackedLayer& layer,
             std::uint64_t before, std::uint64_t after, double error, const Varying& varying) {
  std::vector<std::string> cells{name, count > 0 ? fmt::to_string(count) : "", shape_text(layer.format)};
  std::ranges::move(varying.cells(layer), std::back_inserter(cells));
  cells.push_back(byte_count(before));
  cells.push_back(byte_count(after));
  cells.push_back(fmt::format("{:.2e}", error));
  table.add_row(std::move(cells));
}

TextTable layer_table(const char* name, const char* error) {
  return TextTable({{name, left},
                    {"layers"},
                    {"shape"},
                    {"bits"},
                    {"group"},
                    {"method", left},
                    {"dtype", left},
                    {"before"},
                    {"after"},
                    {error}});
}

void print_layers(const QuantizeResult& result) {
  const Varying varying(result.layers);
  TextTable table = layer_table("layer", "weight error");
  for (const auto& [layer, before, after] : result.layers) {
    add_row(table, printable(layer.name), 0, layer, before, after, layer.weight_error, varying);
  }
  table.print();
}

void print_kinds(const QuantizeResult& result) {
  const Varying varying(result.layers);
  std::vector<LayerKind> kinds = layer_kinds(result.layers);
  const std::size_t all = kinds.size();
  if (all > kShownKinds) {
    // Those that matter most, still in the order of their names.
    std::vector<std::uint64_t> sizes;
    for (const LayerKind& kind : kinds) sizes.push_back(kind.before);
    std::ranges::sort(sizes, std::greater());
    std::erase_if(kinds, [&](const LayerKind& kind) { return kind.before < sizes[kShownKinds - 1]; });
    kinds.resize(std::min(kinds.size(), kShownKinds));
  }
  TextTable table = layer_table("kind of layer", "worst error");
  for (const LayerKind& kind : kinds) {
    // A long name has a line of its own, so that the figures stay in sight.
    const std::string name = printable(kind.name, 2 * kNameColumn);
    if (name.size() > kNameColumn) table.add_heading(name);
    add_row(table, name.size() > kNameColumn ? "" : name, kind.layers.size(),
            result.layers[kind.layers.front()].layer, kind.before, kind.after, kind.weight_error, varying);
  }
  table.print();
  if (all > kinds.size()) {
    print_output(
        fmt::format("... and {}; --all shows every layer\n", counted(all - kinds.size(), "smaller kind")));
  }
}

// ---- What was left alone
// -----------------------------------------------------------------------------------------

struct LeftKind {
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;
  const TensorDecision* example = nullptr;  ///< the largest
};
using LeftKinds = std::map<std::pair<LeftAlone, std::string>, LeftKind>;

template <class Filter>
LeftKinds left_kinds(const std::vector<TensorDecision>& decisions, const Filter& filter) {
  LeftKinds kinds;
  for (const TensorDecision& decision : decisions) {
    if (!decision.left_alone || !filter(decision)) continue;
    LeftKind& kind = kinds[{*decision.left_alone, decision.format}];
    ++kind.tensors;
    kind.bytes += decision.tensor.bytes;
    if (kind.example == nullptr || decision.tensor.bytes > kind.example->tensor.bytes)
      kind.example = &decision;
  }
  return kinds;
}

std::string title(const std::pair<LeftAlone, std::string>& key) {
  return fmt::format("{}{}", text_of(key.first).title, key.second.empty() ? "" : " (" + key.second + ")");
}

std::string type_text(const TensorInfo& tensor) {
  return fmt::format("{} [{}]", printable(tensor.dtype, 20), fmt::join(tensor.shape, ", "));
}

void print_left_kinds(const LeftKinds& kinds) {
  TextTable table({{"left as they are", left}, {"tensors"}, {"bytes"}, {"such as", left}});
  std::size_t shown = 0;
  std::size_t others = 0;
  std::uint64_t other_bytes = 0;
  for (const auto& [key, kind] : kinds) {
    if (shown++ < kShownReasons) {
      table.add_row({title(key), fmt::to_string(kind.tensors), byte_count(kind.bytes),
                     fmt::format("{} {}", printable(name_of_kind(kind.example->name), kExampleColumn),
                                 type_text(kind.example->tensor))});
    } else {
      others += kind.tensors;
      other_bytes += kind.bytes;
    }
  }
  if (others > 0) table.add_row({"others, see --all", fmt::to_string(others), byte_count(other_bytes)});
  table.print();
}

void print_left_tensors(const std::vector<TensorDecision>& decisions) {
  TextTable table({{"left as they are", left}, {"type", left}, {"bytes"}, {"why", left}});
  for (const TensorDecision& decision : decisions) {
    if (!decision.left_alone) continue;
    table.add_row({printable(decision.name), type_text(decision.tensor), byte_count(decision.tensor.bytes),
                   title({*decision.left_alone, decision.format})});
  }
  table.print();
}

/// What to do about what looks like a layer but was not taken.
void print_advice(const QuantizeResult& result, const LeftKinds& kinds) {
  std::vector<std::pair<std::string, std::string>> said;  // each advice once: about what, and what
  for (const auto& [key, kind] : kinds) {
    const auto& [reason, format] = key;
    const std::string advice(format.empty() ? text_of(reason).advice
                                            : std::string_view(kind.example->format_advice));
    // Positions and masks are of other types everywhere; nobody needs to be told.
    const bool usual = reason == LeftAlone::too_small || reason == LeftAlone::other_name ||
                       (reason == LeftAlone::other_type && !kind.example->name.ends_with(".weight"));
    if (advice.empty() || usual) continue;
    const std::string about = format.empty() ? title(key) : format;
    const auto same = std::ranges::find(said, advice, &std::pair<std::string, std::string>::second);
    if (same == said.end()) {
      said.emplace_back(about, advice);
    } else {
      same->first += ", " + about;
    }
  }
  for (const auto& [about, advice] : said) print_output(fmt::format("{}: {}\n", about, advice));
  const auto in_vain = left_kinds(result.decisions, [](const TensorDecision& decision) {
    return decision.asked_for && decision.left_alone != LeftAlone::vector &&
           decision.left_alone != LeftAlone::skipped;
  });
  for (const auto& [key, kind] : in_vain) {
    print_output(fmt::format("--layers matches {} that cannot be quantized: {}, such as {}\n",
                             counted(kind.tensors, "tensor"), title(key),
                             printable(kind.example->name, kExampleColumn)));
  }
}

/// Layers may have more bits than kernels multiply.
void print_layers_without_kernel(const std::vector<LayerBytes>& layers) {
  const Target any = Target::parse(Target::all().front().name).value();
  const auto has_no_kernel = [&any](const LayerBytes& written) {
    return !validate(KernelSpec{.format = written.layer.format, .m = 1, .target = any});
  };
  const auto count = static_cast<std::size_t>(std::ranges::count_if(layers, has_no_kernel));
  if (count == 0) return;
  print_output(
      fmt::format("No kernel multiplies {} of them, only the reference does: for kernels quantize to at "
                  "most 4 bits\n",
                  count));
}

}  // namespace

void print_result(const QuantizeResult& result, bool all) {
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  for (const LayerBytes& layer : result.layers) {
    before += layer.before;
    after += layer.after;
  }
  all ? print_layers(result) : print_kinds(result);
  print_output(fmt::format("{}, {}: {} -> {}\n", counted(result.layers.size(), "layer"),
                           Varying(result.layers).rest(result.layers.front().layer), byte_count(before),
                           byte_count(after)));
  print_layers_without_kernel(result.layers);
  const auto kinds = left_kinds(result.decisions, [](const TensorDecision&) { return true; });
  if (!kinds.empty()) print_output("\n");
  all ? print_left_tensors(result.decisions) : print_left_kinds(kinds);
  print_advice(result, kinds);
  print_output(fmt::format("\nthe whole checkpoint: {} -> {}, written to {}\n",
                           byte_count(result.total_before), byte_count(result.total_after),
                           printable(result.output)));
}

Json result_json(const QuantizeResult& result) {
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  Json layers = Json::array();
  for (const LayerBytes& written : result.layers) {
    const PackedLayer& layer = written.layer;
    before += written.before;
    after += written.after;
    Json json{{"name", layer.name},
              {"n", layer.format.n},
              {"k", layer.format.k},
              {"bits", layer.format.bits},
              {"group", group_json(layer.format.group)},
              {"method", layer.method},
              {"dtype", to_string(layer.format.dtype)},
              {"bytes_before", written.before},
              {"bytes_after", written.after},
              {"weight_error", layer.weight_error}};
    if (layer.expert >= 0) {
      json["source"] = layer.source;
      json["expert"] = layer.expert;
    }
    layers.push_back(std::move(json));
  }
  Json left = Json::array();
  for (const TensorDecision& decision : result.decisions) {
    if (!decision.left_alone) continue;
    Json json{{"name", decision.name},
              {"dtype", decision.tensor.dtype},
              {"shape", decision.tensor.shape},
              {"bytes", decision.tensor.bytes},
              {"reason", text_of(*decision.left_alone).code},
              {"asked_for", decision.asked_for}};
    if (!decision.format.empty()) json["format"] = decision.format;
    left.push_back(std::move(json));
  }
  Json json{{"input", result.input},
            {"output", result.output},
            {"method", result.settings.method},
            {"scales", to_string(result.settings.scale_choice())},
            {"bytes_before", before},
            {"bytes_after", after},
            {"total_bytes_before", result.total_before},
            {"total_bytes_after", result.total_after},
            {"copied_tensors", left.size()},
            {"layers", std::move(layers)},
            {"left_alone", std::move(left)}};
  if (!result.files.empty()) json["files"] = result.files;
  return json;
}

}  // namespace lutsmith::cli
