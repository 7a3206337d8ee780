#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <regex>
#include <set>

#include "command.h"
#include "kernel_json.h"
#include "output.h"
#include "packed_file.h"
#include "parallel.h"
#include "progress.h"

namespace lutsmith::tools {
namespace {

struct QuantizeOptions {
  std::string input;
  std::string output;
  std::string method = "nf";
  int bits = 4;
  std::string group = "64";
  std::string dtype = "f16";
  std::string layers;
  int jobs = 0;
};

/// The options once checked.
struct Method {
  Table table;
  std::string name;
  int group = 64;
  DataType dtype = DataType::fp16;
};

struct QuantizedLayer {
  PackedLayer layer;
  std::size_t bytes_before = 0;
  std::vector<std::byte> packed;
  std::vector<std::uint16_t> table;
};

// Layers smaller than this gain nothing from packing.
constexpr std::int64_t kSmallestSide = 64;

std::unexpected<Error> refuse(std::string message, std::string context = {}) {
  return std::unexpected(Error{ErrorCode::invalid_argument, std::move(message), std::move(context)});
}

Result<Method> check_method(const QuantizeOptions& options) {
  const auto group = parse_group(options.group);
  if (!group) return std::unexpected(group.error());
  const auto dtype = parse_data_type(options.dtype);
  if (!dtype) return std::unexpected(dtype.error());
  // Bits and group have to be what kernels exist for; any shape that is allowed will do to ask.
  const KernelSpec spec{
      .bits = options.bits, .group = *group, .n = 64, .k = 64, .dtype = *dtype, .target = {}};
  if (const auto valid = validate(spec); !valid) return std::unexpected(valid.error());
  auto table = table_by_method(options.method, options.bits);
  if (!table) return std::unexpected(table.error());
  return Method{std::move(*table), options.method, *group, *dtype};
}

Result<void> check_output(const QuantizeOptions& options) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path output(options.output);
  if (fs::equivalent(options.input, output, ignored)) {
    return refuse(fmt::format("output: '{}' is the input itself; give another name", options.output));
  }
  const fs::path folder = output.has_parent_path() ? output.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, ignored)) {
    return refuse(fmt::format("output: '{}' is not a directory; create it first", folder.string()));
  }
  return {};
}

bool is_matrix(const TensorInfo& tensor) {
  return tensor.shape.size() == 2 && floating_bytes(tensor.dtype) > 0 && tensor.shape[0] > 0;
}

bool is_linear_layer(const std::string& name, const TensorInfo& tensor) {
  return tensor.shape[1] % 8 == 0 && tensor.shape[0] >= kSmallestSide && tensor.shape[1] >= kSmallestSide &&
         name.ends_with(".weight") && !name.contains("embed");
}

Result<std::vector<std::string>> select_layers(const SafetensorsFile& file, const std::string& pattern) {
  std::regex expression;
  try {
    expression = std::regex(pattern, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    return refuse(fmt::format("layers: '{}' is not a regular expression: {}", pattern, error.what()));
  }
  std::vector<std::string> result;
  for (const auto& [name, tensor] : file.tensors()) {
    if (!is_matrix(tensor)) continue;
    if (pattern.empty() ? !is_linear_layer(name, tensor) : !std::regex_search(name, expression)) continue;
    if (tensor.shape[1] % 8 != 0) {
      return refuse(fmt::format("layers: '{}' has k = {}, which is not a multiple of 8; leave it out", name,
                                tensor.shape[1]));
    }
    result.push_back(name);
  }
  if (!result.empty()) return result;
  return refuse(pattern.empty() ? "layers: no tensor looks like a linear layer; name them with --layers REGEX"
                                : fmt::format("layers: no matrix matches '{}'", pattern),
                fmt::format("the file holds {} tensors", file.tensors().size()));
}

// ||packed - original|| / ||original||.
double weight_error(const QuantizedMatrix& matrix, std::span<const float> weights) {
  std::vector<double> values;
  for (const std::uint16_t value : matrix.table) values.push_back(from_bits(value, matrix.dtype));
  const std::int64_t k = matrix.format.k;
  const std::int64_t group = matrix.format.group == kPerChannel ? k : matrix.format.group;
  const std::int64_t groups = groups_per_row(matrix.format.group, k);
  double difference = 0;
  double norm = 0;
  for (std::int64_t row = 0; row < matrix.format.n; ++row) {
    for (std::int64_t first = 0; first < k; first += group) {
      const auto scale_index = static_cast<std::size_t>(row * groups + first / group);
      const double scale = from_bits(matrix.scales[scale_index], matrix.dtype);
      for (std::int64_t column = first; column < std::min(k, first + group); ++column) {
        const auto i = static_cast<std::size_t>(row * k + column);
        const double weight = weights[i];
        const double error = scale * values[matrix.codes[i]] - weight;
        difference += error * error;
        norm += weight * weight;
      }
    }
  }
  return norm > 0 ? std::sqrt(difference / norm) : 0;
}

Result<QuantizedLayer> quantize_layer(const SafetensorsFile& file, const std::string& name,
                                      const Method& method) {
  const TensorInfo& tensor = file.tensors().at(name);
  const auto bytes = file.read(name);
  if (!bytes) return std::unexpected(bytes.error());
  const auto weights = to_floats(tensor.dtype, *bytes);
  if (!weights) return std::unexpected(weights.error());
  auto matrix =
      quantize(*weights, tensor.shape[0], tensor.shape[1], method.table, method.group, method.dtype);
  if (!matrix) return std::unexpected(matrix.error());
  auto packed = pack(*matrix);
  if (!packed) return std::unexpected(packed.error());
  const PackedLayer layer{name,
                          matrix->format,
                          method.dtype,
                          matrix->table_kind,
                          method.name,
                          tensor.dtype,
                          weight_error(*matrix, *weights)};
  return QuantizedLayer{layer, tensor.bytes, std::move(*packed), std::move(matrix->table)};
}

Result<std::vector<QuantizedLayer>> quantize_all(const SafetensorsFile& file,
                                                 const std::vector<std::string>& names, const Method& method,
                                                 unsigned jobs) {
  std::vector<QuantizedLayer> layers(names.size());
  std::mutex mutex;
  std::optional<Error> first_error;
  Progress progress(names.size());
  parallel_for(names.size(), jobs, [&](std::size_t i) {
    auto layer = quantize_layer(file, names[i], method);
    if (layer) {
      layers[i] = std::move(*layer);
    } else {
      const std::scoped_lock lock(mutex);
      if (!first_error) {
        first_error = layer.error();
        first_error->message = fmt::format("layer '{}': {}", names[i], layer.error().message);
      }
    }
    progress.advance(names[i]);
  });
  if (first_error) return std::unexpected(*first_error);
  return layers;
}

Result<void> write_packed(const SafetensorsFile& file, const std::vector<QuantizedLayer>& layers,
                          const std::string& path) {
  std::vector<TensorToWrite> tensors;
  std::vector<PackedLayer> descriptions;
  std::map<std::string, std::string> metadata = file.metadata();
  std::set<std::string> replaced;
  for (const QuantizedLayer& layer : layers) {
    const std::string& name = layer.layer.name;
    descriptions.push_back(layer.layer);
    replaced.insert(name);
    for (const std::string& added : {packed_tensor_name(name), table_tensor_name(name)}) {
      if (file.tensors().contains(added)) {
        return refuse(
            fmt::format("input: there is a tensor '{}' already; quantize the original file", added));
      }
    }
    tensors.push_back({packed_tensor_name(name), "U8", {static_cast<std::int64_t>(layer.packed.size())}});
    tensors.push_back({table_tensor_name(name),
                       safetensors_dtype(layer.layer.dtype),
                       {static_cast<std::int64_t>(layer.table.size())}});
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (!replaced.contains(name)) tensors.push_back({name, tensor.dtype, tensor.shape});
  }
  metadata[kPackedMetadataKey] = describe_layers(descriptions);
  auto writer = SafetensorsWriter::create(path, tensors, SafetensorsWriter::metadata_bytes(metadata));
  if (!writer) return std::unexpected(writer.error());
  for (const QuantizedLayer& layer : layers) {
    const std::string& name = layer.layer.name;
    if (auto done = writer->write(packed_tensor_name(name), 0, layer.packed); !done) return done;
    const auto table = std::as_bytes(std::span(layer.table));
    if (auto done = writer->write(table_tensor_name(name), 0, table); !done) return done;
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (replaced.contains(name)) continue;
    const auto bytes = file.read(name);
    if (!bytes) return std::unexpected(bytes.error());
    if (auto done = writer->write(name, 0, *bytes); !done) return done;
  }
  return writer->commit(metadata);
}

struct Totals {
  std::size_t before = 0;
  std::size_t after = 0;
};

void print_layers(const std::vector<QuantizedLayer>& layers, Totals totals, const std::string& output) {
  using enum TextTable::Align;
  TextTable table({{"layer", left}, {"shape"}, {"bits"}, {"group"}, {"before"}, {"after"}, {"weight error"}});
  for (const QuantizedLayer& layer : layers) {
    const PackedFormat& format = layer.layer.format;
    table.add_row({layer.layer.name, fmt::format("{}x{}", format.n, format.k), fmt::to_string(format.bits),
                   group_name(format.group), byte_count(static_cast<double>(layer.bytes_before)),
                   byte_count(static_cast<double>(layer.packed.size())),
                   fmt::format("{:.2e}", layer.layer.weight_error)});
  }
  table.print();
  fmt::print("{} layers, {} -> {}, written to {}\n", layers.size(),
             byte_count(static_cast<double>(totals.before)), byte_count(static_cast<double>(totals.after)),
             output);
}

Json report(const QuantizeOptions& options, const std::vector<QuantizedLayer>& layers, Totals totals,
            std::size_t copied) {
  Json json{{"input", options.input},        {"output", options.output},    {"method", options.method},
            {"bytes_before", totals.before}, {"bytes_after", totals.after}, {"copied_tensors", copied},
            {"layers", Json::array()}};
  for (const QuantizedLayer& layer : layers) {
    const PackedFormat& format = layer.layer.format;
    json["layers"].push_back({{"name", layer.layer.name},
                              {"n", format.n},
                              {"k", format.k},
                              {"bits", format.bits},
                              {"group", group_json(format.group)},
                              {"dtype", to_string(layer.layer.dtype)},
                              {"bytes_before", layer.bytes_before},
                              {"bytes_after", layer.packed.size()},
                              {"weight_error", layer.layer.weight_error}});
  }
  return json;
}

Result<ExitCode> run_quantize(const QuantizeOptions& options, bool json) {
  const auto method = check_method(options);
  if (!method) return std::unexpected(method.error());
  if (const auto possible = check_output(options); !possible) return std::unexpected(possible.error());
  const auto file = SafetensorsFile::open(options.input);
  if (!file) return std::unexpected(file.error());
  if (is_packed(*file)) {
    return refuse(fmt::format("input: '{}' is quantized already; give the original file", options.input));
  }
  const auto names = select_layers(*file, options.layers);
  if (!names) return std::unexpected(names.error());
  const auto layers = quantize_all(*file, *names, *method, job_count(options.jobs));
  if (!layers) return std::unexpected(layers.error());
  const auto written = write_packed(*file, *layers, options.output);
  if (!written) return std::unexpected(written.error());
  Totals totals;
  for (const QuantizedLayer& layer : *layers) {
    totals.before += layer.bytes_before;
    totals.after += layer.packed.size();
  }
  if (json) {
    print_json(report(options, *layers, totals, file->tensors().size() - layers->size()));
  } else {
    print_layers(*layers, totals, options.output);
  }
  return ExitCode::success;
}

}  // namespace

void add_quantize(CLI::App& app, Context& context) {
  const auto options = std::make_shared<QuantizeOptions>();
  CLI::App& verb = add_verb(app, context,
                            {.name = "quantize",
                             .description = "Quantize and pack the linear layers of a safetensors checkpoint",
                             .examples = "  lutsmith quantize model.safetensors -o model-nf4.safetensors\n"
                                         "  lutsmith quantize model.safetensors -o mlp-int3.safetensors "
                                         "--method int --bits 3 --group 128 \\\n"
                                         "      --layers 'mlp\\.(gate|up|down)_proj\\.weight$'",
                             .work = [options, &context] { return run_quantize(*options, context.json); }});
  verb.add_option("input", options->input, "Checkpoint to read")->required()->type_name("IN.safetensors");
  verb.add_option("-o,--output", options->output, "Checkpoint to write: whole or not at all")
      ->required()
      ->type_name("OUT.safetensors");
  verb.add_option("--method", options->method,
                  "Table: nf (normal float), int (symmetric) or fp (e2m1, 4 bits)")
      ->capture_default_str()
      ->type_name("NAME");
  verb.add_option("--bits", options->bits, "Bits per weight: 2, 3 or 4")
      ->capture_default_str()
      ->type_name("INT");
  verb.add_option("--group", options->group, "Weights per scale: 32, 64, 128, 256 or channel")
      ->capture_default_str()
      ->type_name("GROUP");
  verb.add_option("--dtype", options->dtype, "Scales, table and activations: f16 or bf16")
      ->capture_default_str()
      ->type_name("TYPE");
  verb.add_option("--layers", options->layers,
                  "Matrices whose name this regular expression is found in; without it, those of 64 x 64 or "
                  "more, k a multiple of 8, named *.weight and not *embed*")
      ->type_name("REGEX");
  verb.add_option("--jobs", options->jobs, "Layers to quantize at a time; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->type_name("INT");
}

}  // namespace lutsmith::tools
