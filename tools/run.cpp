#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "activations.h"
#include "command.h"
#include "kernel_json.h"
#include "multiply.h"
#include "open_service.h"
#include "output.h"
#include "packed_file.h"
#include "spec_request.h"

namespace lutsmith::tools {
namespace {

struct RunOptions {
  std::string input;
  std::int64_t m = 8;
  std::string target;
  std::string activations;
};

/// Where the multiplication happens and what is compiled.
struct Plan {
  bool gpu = false;
  std::string no_gpu_reason;
  std::vector<Target> targets;  ///< the first is the GPU's where there is one
};

struct LayerResult {
  const StoredLayer* layer = nullptr;
  KernelSpec spec;  ///< its target is that of the first kernel
  std::string activations;
  double relative_error = 0;
  bool right = false;
  std::vector<std::pair<Target, CompileResult>> kernels;  ///< one per target
};

// Largest error against float64 of a kernel that is right: products summed in fp32, the result rounded
// to the output type.
double allowed_error(DataType dtype) { return dtype == DataType::fp16 ? 2.0e-3 : 1.1e-2; }

Result<Plan> make_plan(const std::string& target_list) {
  Plan plan;
  if (const auto native = native_target()) {
    plan.gpu = true;
    plan.targets.push_back(*native);
  } else {
    plan.no_gpu_reason = native.error().message;
  }
  if (target_list.empty() && plan.gpu) return plan;
  const auto targets = parse_targets(target_list.empty() ? "sm_80,sm_90a" : target_list);
  if (!targets) return std::unexpected(targets.error());
  for (const Target& target : *targets) {
    if (std::ranges::find(plan.targets, target) == plan.targets.end()) plan.targets.push_back(target);
  }
  return plan;
}

Result<QuantizedMatrix> unpack_layer(const StoredLayer& stored) {
  auto matrix = unpack(stored.packed, stored.layer.format, stored.layer.dtype);
  if (!matrix) return matrix;
  matrix->table_kind = stored.layer.table_kind;
  matrix->table = stored.table;
  return matrix;
}

Result<LayerResult> run_layer(Service& service, const StoredLayer& stored, const Plan& plan,
                              const ActivationSource& source, std::int64_t m) {
  const PackedLayer& layer = stored.layer;
  LayerResult result;
  result.layer = &stored;
  result.spec = {layer.format.bits, layer.format.group, layer.format.n,      layer.format.k, m,
                 layer.dtype,       layer.table_kind,   plan.targets.front()};
  const auto activations = source.make(m, layer.format.k, layer.dtype);
  if (!activations) return std::unexpected(activations.error());
  result.activations = activations->source;
  const auto matrix = unpack_layer(stored);
  if (!matrix) return std::unexpected(matrix.error());
  const auto reference = reference_matmul(*matrix, activations->values, m);
  if (!reference) return std::unexpected(reference.error());
  for (const Target& target : plan.targets) {
    KernelSpec spec = result.spec;
    spec.target = target;
    auto compiled = service.compile(spec);
    if (!compiled) return std::unexpected(compiled.error());
    result.kernels.emplace_back(target, std::move(*compiled));
  }
  std::vector<std::uint16_t> product;
  if (plan.gpu) {
    const auto kernel = service.get(result.spec);
    if (!kernel) return std::unexpected(kernel.error());
    auto output = multiply_on_gpu(service, *kernel, stored, activations->values, m);
    if (!output) return std::unexpected(output.error());
    product = std::move(*output);
  } else {
    product = round_product(*reference, layer.dtype);
  }
  result.relative_error = relative_error(product, *reference, layer.dtype);
  result.right = result.relative_error <= allowed_error(layer.dtype);
  return result;
}

std::int64_t bytes_before(const PackedLayer& layer) {
  return layer.format.n * layer.format.k * floating_bytes(layer.source_dtype);
}

Json layer_json(const LayerResult& result, bool gpu) {
  const PackedLayer& layer = result.layer->layer;
  Json json{{"layer", layer.name},
            {"n", layer.format.n},
            {"k", layer.format.k},
            {"bits", layer.format.bits},
            {"group", group_json(layer.format.group)},
            {"method", layer.method},
            {"bytes_before", bytes_before(layer)},
            {"bytes_after", result.layer->packed.size()},
            {"weight_error", layer.weight_error},
            {"activations", result.activations},
            {"device", gpu ? "gpu" : "cpu reference"},
            {"relative_error", result.relative_error},
            {"allowed_error", allowed_error(layer.dtype)},
            {"right", result.right},
            {"kernels", Json::array()}};
  for (const auto& [target, compiled] : result.kernels) {
    json["kernels"].push_back({{"target", target.name()},
                               {"key", compiled.artifact->key},
                               {"kernel_name", compiled.artifact->kernel_name},
                               {"schedule", to_json(compiled.schedule)},
                               {"milliseconds", compiled.milliseconds},
                               {"cache", cache_outcome(compiled.origin)}});
  }
  return json;
}

void print_results(const std::vector<LayerResult>& results, const Plan& plan, std::int64_t m) {
  using enum TextTable::Align;
  TextTable table({{"layer", left},
                   {"shape"},
                   {"bits"},
                   {"before"},
                   {"after"},
                   {"weight error"},
                   {"relative error"},
                   {"target", left},
                   {"kernel", left},
                   {"compile ms"},
                   {"cache", left}});
  for (const LayerResult& result : results) {
    const PackedLayer& layer = result.layer->layer;
    for (const auto& [target, compiled] : result.kernels) {
      table.add_row({layer.name, fmt::format("{}x{}", layer.format.n, layer.format.k),
                     fmt::to_string(layer.format.bits), byte_count(static_cast<double>(bytes_before(layer))),
                     byte_count(static_cast<double>(result.layer->packed.size())),
                     fmt::format("{:.2e}", layer.weight_error),
                     fmt::format("{:.2e}{}", result.relative_error, result.right ? "" : " WRONG"),
                     std::string(target.name()), describe(compiled.schedule),
                     fmt::format("{:.1f}", compiled.milliseconds), cache_outcome(compiled.origin)});
    }
  }
  table.print();
  fmt::print("{} tokens per layer, multiplied on {}\n", m,
             plan.gpu ? fmt::format("the GPU ({})", plan.targets.front().name())
                      : std::string("the cpu reference: the float64 product rounded to 16 bits"));
  if (!plan.gpu) fmt::print("not on the GPU: {}\n", plan.no_gpu_reason);
  fmt::print(
      "relative error: result against the float64 product of the same packed weights\n"
      "weight error: packed weights against the original ones\n");
}

Result<ExitCode> run_packed(const RunOptions& options, bool json) {
  const auto plan = make_plan(options.target);
  if (!plan) return std::unexpected(plan.error());
  const auto file = SafetensorsFile::open(options.input);
  if (!file) return std::unexpected(file.error());
  const auto layers = stored_layers(*file);
  if (!layers) return std::unexpected(layers.error());
  const auto source = ActivationSource::open(*file, options.activations);
  if (!source) return std::unexpected(source.error());
  auto service = open_service();
  if (!service) return std::unexpected(service.error());
  std::vector<LayerResult> results;
  bool right = true;
  Json rows = Json::array();
  for (const StoredLayer& stored : *layers) {
    auto result = run_layer(*service, stored, *plan, *source, options.m);
    if (!result) {
      Error error = result.error();
      error.message = fmt::format("layer '{}': {}", stored.layer.name, error.message);
      return std::unexpected(std::move(error));
    }
    right = right && result->right;
    rows.push_back(layer_json(*result, plan->gpu));
    results.push_back(std::move(*result));
  }
  if (json) {
    print_json({{"m", options.m}, {"device", plan->gpu ? "gpu" : "cpu reference"}, {"layers", rows}});
  } else {
    print_results(results, *plan, options.m);
  }
  return right ? ExitCode::success : ExitCode::work_failed;
}

}  // namespace

void add_run(CLI::App& app, Context& context) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "run",
       .description = "Multiply with the packed weights of a checkpoint and check against float64",
       .examples = "  lutsmith run model-nf4.safetensors\n"
                   "  lutsmith run model-nf4.safetensors --m 1 --target sm_80,sm_90a --json\n"
                   "Multiplies on the GPU, or on the CPU reference where there is none. Exit code 1 where a\n"
                   "result is further from float64 than rounding explains.",
       .work = [options, &context] { return run_packed(*options, context.json); }});
  verb.add_option("input", options->input, "Checkpoint made by `lutsmith quantize`")
      ->required()
      ->type_name("FILE.safetensors");
  verb.add_option("--m", options->m, "Tokens to multiply with")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{65536}))
      ->capture_default_str()
      ->type_name("INT");
  verb.add_option("--target", options->target,
                  "Compile for these architectures too; without a GPU the default is sm_80,sm_90a")
      ->type_name("LIST");
  verb.add_option("--activations", options->activations,
                  "Take rows of this matrix where it is as wide as a layer; without it, of the checkpoint's "
                  "embedding table; else normally distributed numbers")
      ->type_name("FILE.safetensors:TENSOR");
}

}  // namespace lutsmith::tools
