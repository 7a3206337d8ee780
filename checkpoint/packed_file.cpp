#include "checkpoint/packed_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace lutsmith {
namespace {

using nlohmann::json;

std::unexpected<Error> corrupt(std::string_view layer, std::string_view what) {
  return std::unexpected(Error{ErrorCode::corrupt_data,
                               fmt::format("packed layer '{}': {}; quantize the original again", layer, what),
                               {}});
}

json to_json(const PackedLayer& layer) {
  json group = layer.format.group;
  if (layer.format.group == kPerChannel) group = group_name(kPerChannel);
  json object{{"bits", layer.format.bits},
              {"group", group},
              {"n", layer.format.n},
              {"k", layer.format.k},
              {"dtype", to_string(layer.format.dtype)},
              {"table", to_string(layer.format.table)},
              {"method", layer.method},
              {"source_dtype", layer.source_dtype},
              {"weight_error", layer.weight_error}};
  if (layer.format.offsets) object["offsets"] = true;
  if (layer.expert >= 0) {
    object["source"] = layer.source;
    object["expert"] = layer.expert;
  }
  return object;
}

// Reads typed fields of one object; the first that is missing or of another type is remembered.
class FieldReader {
 public:
  explicit FieldReader(const json& object) : object_(object) {}

  std::int64_t integer(const char* name) {
    const auto field = object_.find(name);
    if (field != object_.end() && field->is_number_integer()) return field->get<std::int64_t>();
    return fail(name), 0;
  }
  std::string text(const char* name) {
    const auto field = object_.find(name);
    if (field != object_.end() && field->is_string()) return field->get<std::string>();
    return fail(name), std::string{};
  }
  double number(const char* name) {
    const auto field = object_.find(name);
    if (field != object_.end() && field->is_number()) return field->get<double>();
    return fail(name), 0;
  }
  /// Of a field that is there only where it is true.
  bool flag(const char* name) {
    const auto field = object_.find(name);
    if (field == object_.end()) return false;
    if (!field->is_boolean()) fail(name);
    return *field == true;
  }
  int group(const char* name) {
    const auto field = object_.find(name);
    if (field != object_.end() && field->is_string() && *field == group_name(kPerChannel)) return kPerChannel;
    const std::int64_t value = integer(name);
    if (!std::in_range<int>(value) || value == kPerChannel) fail(name);
    return static_cast<int>(value);
  }
  const std::string& bad_field() const { return bad_field_; }

 private:
  void fail(const char* name) {
    if (bad_field_.empty()) bad_field_ = name;
  }

  const json& object_;
  std::string bad_field_;
};

Result<PackedLayer> read_description(const std::string& name, const json& object) {
  if (!object.is_object()) return corrupt(name, "its description is not an object");
  FieldReader fields(object);
  PackedLayer layer;
  layer.name = name;
  const std::int64_t bits = fields.integer("bits");
  layer.format.group = fields.group("group");
  layer.format.n = fields.integer("n");
  layer.format.k = fields.integer("k");
  const auto dtype = parse_data_type(fields.text("dtype"));
  const auto table = parse_table_kind(fields.text("table"));
  layer.method = fields.text("method");
  layer.source_dtype = fields.text("source_dtype");
  layer.weight_error = fields.number("weight_error");
  layer.format.offsets = fields.flag("offsets");
  if (object.contains("expert")) {
    layer.source = fields.text("source");
    layer.expert = fields.integer("expert");
  }
  if (!fields.bad_field().empty()) {
    return corrupt(name, fmt::format("field '{}' of its description is missing or of the wrong type",
                                     fields.bad_field()));
  }
  if (!std::in_range<int>(bits)) return corrupt(name, "field 'bits' of its description is out of range");
  if (!dtype) return corrupt(name, dtype.error().message);
  if (!table) return corrupt(name, table.error().message);
  layer.format.bits = static_cast<int>(bits);
  layer.format.dtype = *dtype;
  layer.format.table = *table;
  if (const auto valid = validate(layer.format); !valid) return corrupt(name, valid.error().message);
  return layer;
}

Result<StoredLayer> attach_tensors(PackedLayer layer, const SafetensorsFile& file) {
  const auto packed = file.tensors().find(packed_tensor_name(layer.name));
  if (packed == file.tensors().end()) return corrupt(layer.name, "its .packed tensor is missing");
  const auto bytes = packed_bytes(layer.format);
  if (!bytes) return std::unexpected(bytes.error());
  if (packed->second.dtype != "U8" || packed->second.bytes != *bytes) {
    return corrupt(layer.name, fmt::format("its .packed tensor has {} bytes of type {}, not {} of type U8",
                                           packed->second.bytes, packed->second.dtype, *bytes));
  }
  if (layer.format.row_tables()) return StoredLayer{std::move(layer), *bytes, file};  // which has them
  const auto table = file.tensors().find(table_tensor_name(layer.name));
  if (table == file.tensors().end()) return corrupt(layer.name, "its .table tensor is missing");
  const auto length = static_cast<std::size_t>(table_length(layer.format.bits, layer.format.table));
  const std::string dtype = safetensors_dtype(layer.format.dtype);
  if (table->second.dtype != dtype || table->second.bytes != length * sizeof(std::uint16_t)) {
    return corrupt(layer.name, fmt::format("its .table tensor is not {} values of type {}", length, dtype));
  }
  return StoredLayer{std::move(layer), *bytes, file};
}

/// The key by which another version of the format announces itself.
const std::string* other_format(const SafetensorsFile& file) {
  for (const auto& [key, text] : file.metadata()) {
    if (key.starts_with(kPackedMetadataPrefix) && key != kPackedMetadataKey) return &key;
  }
  return nullptr;
}

/// Whether the key ends in a number above that of this version.
bool is_newer(std::string_view key) {
  key.remove_prefix(std::string_view(kPackedMetadataPrefix).size());
  const bool number = !key.empty() && key.find_first_not_of("0123456789") == std::string_view::npos;
  key.remove_prefix(std::min(key.find_first_not_of('0'), key.size()));
  return number && !key.empty() && key != "1";
}

/// Adds the layers that a file describes; none where it has no description.
Result<void> add_layers(const SafetensorsFile& file, std::vector<StoredLayer>& layers) {
  const auto entry = file.metadata().find(kPackedMetadataKey);
  if (entry == file.metadata().end()) {
    const std::string* const other = other_format(file);
    if (other == nullptr) return {};
    const bool newer = is_newer(*other);
    return std::unexpected(
        Error{ErrorCode::unsupported,
              fmt::format("{} was packed by {} lutsmith, in the format {}; this version reads {}: {}, or "
                          "quantize the original again",
                          file.path().string(), newer ? "a newer" : "another version of", *other,
                          kPackedMetadataKey, newer ? "update it" : "use the other one"),
              {}});
  }
  const json document = json::parse(entry->second, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded() || !document.is_object()) {
    return corrupt("", fmt::format("the metadata '{}' is not a JSON object", kPackedMetadataKey));
  }
  for (const auto& [name, object] : document.items()) {
    auto layer = read_description(name, object);
    if (!layer) return std::unexpected(layer.error());
    auto stored = attach_tensors(std::move(*layer), file);
    if (!stored) return std::unexpected(stored.error());
    layers.push_back(std::move(*stored));
  }
  return {};
}

std::unexpected<Error> nothing_packed(std::string_view what) {
  return std::unexpected(
      Error{ErrorCode::invalid_argument,
            fmt::format("the {} holds no packed layers; make one with `lutsmith quantize`", what),
            fmt::format("looked for '{}' in its metadata", kPackedMetadataKey)});
}

}  // namespace

std::string packed_tensor_name(const std::string& name) { return name + ".packed"; }
std::string table_tensor_name(const std::string& name) { return name + ".table"; }

std::string describe_layers(std::span<const PackedLayer> layers) {
  json object = json::object();
  for (const PackedLayer& layer : layers) object[layer.name] = to_json(layer);
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<LayerWeights> StoredLayer::read() const {
  LayerWeights weights;
  auto packed = file.read(packed_tensor_name(layer.name));
  if (!packed) return std::unexpected(packed.error());
  weights.packed = *std::move(packed);
  weights.table.resize(static_cast<std::size_t>(launched_table_length(layer.format)));
  if (weights.table.empty()) return weights;
  const auto table =
      file.read(table_tensor_name(layer.name), 0, std::as_writable_bytes(std::span(weights.table)));
  if (!table) return std::unexpected(table.error());
  return weights;
}

bool is_packed(const SafetensorsFile& file) {
  return std::ranges::any_of(
      file.metadata(), [](const auto& entry) { return entry.first.starts_with(kPackedMetadataPrefix); });
}

Result<std::vector<StoredLayer>> stored_layers(const Checkpoint& checkpoint) {
  std::vector<StoredLayer> layers;
  bool packed = false;
  for (const Shard& shard : checkpoint.shards()) {
    if (const auto added = add_layers(shard.file, layers); !added) return std::unexpected(added.error());
    packed = packed || is_packed(shard.file);
  }
  if (!packed) return nothing_packed(checkpoint.shards().size() == 1 ? "file" : "checkpoint");
  std::ranges::sort(layers, {},
                    [](const StoredLayer& stored) -> const std::string& { return stored.layer.name; });
  return layers;
}

std::string safetensors_dtype(DataType type) { return type == DataType::f16 ? "F16" : "BF16"; }

std::int64_t floating_bytes(std::string_view safetensors_dtype) {
  if (safetensors_dtype == "F64") return 8;
  if (safetensors_dtype == "F32") return 4;
  if (safetensors_dtype == "F16" || safetensors_dtype == "BF16") return 2;
  return 0;
}

}  // namespace lutsmith
