#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "activations.h"
#include "command.h"
#include "emulate.h"
#include "kernel_json.h"
#include "multiply.h"
#include "open_service.h"
#include "output.h"
#include "packed_file.h"
#include "progress.h"
#include "runtime/recorder.h"
#include "spec_request.h"

namespace lutsmith::tools {
namespace {

struct RunOptions {
  std::string input;
  std::int64_t m = 8;
  std::string target;
  bool emulate = false;
  std::string activations;
  std::string record;
};

enum class Device { gpu, emulator, cpu_reference };

const char* to_string(Device device) {
  switch (device) {
    case Device::gpu:
      return "gpu";
    case Device::emulator:
      return "emulator";
    case Device::cpu_reference:
      return "cpu reference";
  }
  return "unknown";
}

/// Where the multiplication happens and what is compiled.
struct Plan {
  Device device = Device::cpu_reference;
  std::string no_gpu_reason;
  std::vector<Target> targets;  ///< the first is the GPU's where it multiplies; the emulator has one
  std::string record = {};      ///< file to record requests in; empty: none
};

/// What compiles and multiplies: the library's service, or the emulator in its place.
using Engine = std::variant<Service, Emulation>;

struct UsedKernel {
  Target target;
  Schedule schedule;
  std::string name;
  double compile_milliseconds = 0;
  std::string key;          ///< in the cache; empty where the emulator ran it, which has no cache
  std::string cache = "-";  ///< "hit", "miss"
};

struct Multiplication {
  std::vector<UsedKernel> kernels;    ///< one per target
  std::vector<std::uint16_t> values;  ///< Y
};

struct LayerResult {
  const StoredLayer* layer = nullptr;
  std::string activations;
  double relative_error = 0;
  bool right = false;
  std::vector<UsedKernel> kernels;
};

// Largest error against float64 of a kernel that is right: products summed in fp32, the result rounded
// to the output type.
double allowed_error(DataType dtype) { return dtype == DataType::fp16 ? 2.0e-3 : 1.1e-2; }

Result<Plan> plan_emulation(const std::string& target_list) {
  Plan plan{.device = Device::emulator, .no_gpu_reason = {}, .targets = {}};
  if (target_list.empty()) {
    plan.targets = {native_target().value_or(Target())};
    return plan;
  }
  auto targets = parse_targets(target_list);
  if (!targets) return std::unexpected(targets.error());
  if (targets->size() > 1) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("target: '{}' is not allowed with --emulate; give the one to emulate", target_list),
              {}});
  }
  plan.targets = *std::move(targets);
  return plan;
}

Result<Plan> plan_service(const std::string& target_list) {
  Plan plan;
  if (const auto native = native_target()) {
    plan.device = Device::gpu;
    plan.targets.push_back(*native);
  } else {
    plan.no_gpu_reason = native.error().message;
  }
  if (target_list.empty() && plan.device == Device::gpu) return plan;
  const auto targets = parse_targets(target_list.empty() ? "sm_80,sm_90a" : target_list);
  if (!targets) return std::unexpected(targets.error());
  for (const Target& target : *targets) {
    if (std::ranges::find(plan.targets, target) == plan.targets.end()) plan.targets.push_back(target);
  }
  return plan;
}

Result<Engine> open_engine(const Plan& plan) {
  if (plan.device == Device::emulator) return Emulation::start();
  ServiceOptions options;
  options.record = plan.record;
  return open_service(std::move(options));
}

Result<QuantizedMatrix> unpack_layer(const PackedLayer& layer, const LayerWeights& weights) {
  auto matrix = unpack(weights.packed, layer.format, layer.dtype);
  if (!matrix) return matrix;
  matrix->table_kind = layer.table_kind;
  matrix->table = weights.table;
  return matrix;
}

/// One layer's work; spec.target is the plan's first.
struct Task {
  const LayerWeights& weights;
  KernelSpec spec;
  std::span<const std::uint16_t> activations;
  std::span<const double> reference;  ///< Y in float64
};

Result<Multiplication> multiply(Service& service, const Task& task, const Plan& plan) {
  Multiplication result;
  for (const Target& target : plan.targets) {
    KernelSpec spec = task.spec;
    spec.target = target;
    const auto compiled = service.compile(spec);
    if (!compiled) return std::unexpected(compiled.error());
    result.kernels.push_back({target, compiled->schedule, compiled->artifact->kernel_name,
                              compiled->milliseconds, compiled->artifact->key,
                              cache_outcome(compiled->origin)});
  }
  if (plan.device == Device::cpu_reference) {
    result.values = round_product(task.reference, task.spec.dtype);
    return result;
  }
  const auto kernel = service.get(task.spec);
  if (!kernel) return std::unexpected(kernel.error());
  auto output = multiply_on_gpu(service, *kernel, task.spec, task.weights, task.activations);
  if (!output) return std::unexpected(output.error());
  result.values = std::move(*output);
  return result;
}

Result<Multiplication> multiply(Emulation& emulation, const Task& task, const Plan& plan) {
  auto product = emulation.multiply(task.spec, task.weights, task.activations);
  if (!product) return std::unexpected(product.error());
  Multiplication result;
  result.kernels.push_back({.target = plan.targets.front(),
                            .schedule = product->schedule,
                            .name = product->kernel_name,
                            .compile_milliseconds = product->compile_milliseconds,
                            .key = {}});
  result.values = std::move(product->values);
  return result;
}

Result<LayerResult> run_layer(Engine& engine, const StoredLayer& stored, const Plan& plan,
                              const ActivationSource& source, std::int64_t m) {
  const PackedLayer& layer = stored.layer;
  const auto activations = source.make(m, layer.format.k, layer.dtype);
  if (!activations) return std::unexpected(activations.error());
  const auto weights = stored.read();
  if (!weights) return std::unexpected(weights.error());
  const auto matrix = unpack_layer(layer, *weights);
  if (!matrix) return std::unexpected(matrix.error());
  const auto reference = reference_matmul(*matrix, activations->values, m);
  if (!reference) return std::unexpected(reference.error());
  const Task task{*weights,
                  {layer.format.bits, layer.format.group, layer.format.n, layer.format.k, m, layer.dtype,
                   layer.table_kind, plan.targets.front()},
                  activations->values,
                  *reference};
  auto product = std::visit([&](auto& with) { return multiply(with, task, plan); }, engine);
  if (!product) return std::unexpected(product.error());
  LayerResult result{.layer = &stored,
                     .activations = activations->source,
                     .relative_error = relative_error(product->values, *reference, layer.dtype),
                     .kernels = std::move(product->kernels)};
  result.right = result.relative_error <= allowed_error(layer.dtype);
  return result;
}

Result<std::vector<LayerResult>> run_layers(const std::vector<StoredLayer>& layers, const Plan& plan,
                                            const ActivationSource& source, std::int64_t m) {
  auto engine = open_engine(plan);
  if (!engine) return std::unexpected(engine.error());
  std::optional<Progress> progress;  // the emulator takes its time
  if (plan.device == Device::emulator) progress.emplace(layers.size());
  std::vector<LayerResult> results;
  for (const StoredLayer& stored : layers) {
    auto result = run_layer(*engine, stored, plan, source, m);
    if (!result) {
      Error error = result.error();
      error.message = fmt::format("layer '{}': {}", stored.layer.name, error.message);
      return std::unexpected(std::move(error));
    }
    if (progress) {
      progress->advance(fmt::format("{}: relative error {:.2e}", stored.layer.name, result->relative_error));
    }
    results.push_back(std::move(*result));
  }
  return results;
}

std::int64_t bytes_before(const PackedLayer& layer) {
  return layer.format.n * layer.format.k * floating_bytes(layer.source_dtype);
}

Json layer_json(const LayerResult& result, Device device) {
  const PackedLayer& layer = result.layer->layer;
  Json json{{"layer", layer.name},
            {"n", layer.format.n},
            {"k", layer.format.k},
            {"bits", layer.format.bits},
            {"group", group_json(layer.format.group)},
            {"method", layer.method},
            {"bytes_before", bytes_before(layer)},
            {"bytes_after", result.layer->packed_size},
            {"weight_error", layer.weight_error},
            {"activations", result.activations},
            {"device", to_string(device)},
            {"relative_error", result.relative_error},
            {"allowed_error", allowed_error(layer.dtype)},
            {"right", result.right},
            {"kernels", Json::array()}};
  for (const UsedKernel& kernel : result.kernels) {
    Json entry{{"target", kernel.target.name()},
               {"kernel_name", kernel.name},
               {"schedule", to_json(kernel.schedule)},
               {"milliseconds", kernel.compile_milliseconds}};
    if (!kernel.key.empty()) {
      entry["key"] = kernel.key;
      entry["cache"] = kernel.cache;
    }
    json["kernels"].push_back(std::move(entry));
  }
  return json;
}

std::string device_text(const Plan& plan) {
  switch (plan.device) {
    case Device::gpu:
      return fmt::format("the GPU ({})", plan.targets.front().name());
    case Device::emulator:
      return fmt::format("the emulator: the kernels' source for {}, compiled for this CPU",
                         plan.targets.front().name());
    case Device::cpu_reference:
      return "the cpu reference: the float64 product rounded to 16 bits";
  }
  return {};
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
    for (const UsedKernel& kernel : result.kernels) {
      table.add_row({layer.name, fmt::format("{}x{}", layer.format.n, layer.format.k),
                     fmt::to_string(layer.format.bits), byte_count(static_cast<double>(bytes_before(layer))),
                     byte_count(static_cast<double>(result.layer->packed_size)),
                     fmt::format("{:.2e}", layer.weight_error),
                     fmt::format("{:.2e}{}", result.relative_error, result.right ? "" : " WRONG"),
                     std::string(kernel.target.name()), describe(kernel.schedule),
                     fmt::format("{:.1f}", kernel.compile_milliseconds), kernel.cache});
    }
  }
  table.print();
  fmt::print("{} tokens per layer, multiplied on {}\n", m, device_text(plan));
  if (plan.device == Device::cpu_reference) fmt::print("not on the GPU: {}\n", plan.no_gpu_reason);
  fmt::print(
      "relative error: result against the float64 product of the same packed weights\n"
      "weight error: packed weights against the original ones\n");
}

/// A service only warns where it cannot record; who gave the option wants the file.
Result<void> check_record(const RunOptions& options) {
  if (options.record.empty()) return {};
  if (options.emulate) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("nothing to record in {}: the emulator asks for no kernel of the cache; leave out "
                          "--record or --emulate",
                          options.record),
              {}});
  }
  const auto recorder = Recorder::open(options.record);
  if (!recorder) return std::unexpected(recorder.error());
  return {};
}

Result<ExitCode> run_packed(const RunOptions& options, bool json) {
  if (const auto usable = check_record(options); !usable) return std::unexpected(usable.error());
  auto plan = options.emulate ? plan_emulation(options.target) : plan_service(options.target);
  if (!plan) return std::unexpected(plan.error());
  plan->record = options.record;
  const auto checkpoint = Checkpoint::open(options.input);
  if (!checkpoint) return std::unexpected(checkpoint.error());
  const auto layers = stored_layers(*checkpoint);
  if (!layers) return std::unexpected(layers.error());
  const auto source = ActivationSource::open(*checkpoint, options.activations);
  if (!source) return std::unexpected(source.error());
  const auto results = run_layers(*layers, *plan, *source, options.m);
  if (!results) return std::unexpected(results.error());
  if (json) {
    Json rows = Json::array();
    for (const LayerResult& result : *results) rows.push_back(layer_json(result, plan->device));
    print_json({{"m", options.m}, {"device", to_string(plan->device)}, {"layers", rows}});
  } else {
    print_results(*results, *plan, options.m);
  }
  return std::ranges::all_of(*results, &LayerResult::right) ? ExitCode::success : ExitCode::work_failed;
}

}  // namespace

void add_run(CLI::App& app, Context& context) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "run",
       .description = "Multiply with the packed weights of a checkpoint and check against float64",
       .examples =
           "  lutsmith run model-nf4.safetensors\n"
           "  lutsmith run model-nf4.safetensors --m 1 --target sm_80,sm_90a --json\n"
           "  lutsmith run model-nf4.safetensors --m 1 --emulate\n"
           "Multiplies on the GPU, or on the CPU reference where there is none. Exit code 1 where a\n"
           "result is further from float64 than rounding explains.\n"
           "With --emulate the kernel that was written for the GPU runs on the CPU, thread by thread. That\n"
           "needs no GPU but a C++ compiler (LUTSMITH_HOST_CXX, else c++, g++ or clang++ in PATH), whose\n"
           "time 'compile ms' then shows; nothing is compiled with NVRTC or cached. Access out of bounds,\n"
           "data races and endless waits are errors that name the line.",
       .work = [options, &context] { return run_packed(*options, context.json); }});
  verb.add_option("input", options->input, "Checkpoint made by `lutsmith quantize`")
      ->required()
      ->type_name("FILE.safetensors");
  verb.add_option("--m", options->m, "Tokens to multiply with")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{65536}))
      ->capture_default_str()
      ->type_name("INT");
  verb.add_option("--target", options->target,
                  "Compile for these architectures too; without a GPU the default is sm_80,sm_90a. With "
                  "--emulate the one to emulate: by default the GPU's, without a GPU sm_90a")
      ->type_name("LIST");
  verb.add_flag("--emulate", options->emulate,
                "Run the emitted kernels on the CPU; for one token about a second per 4096x4096 layer");
  verb.add_option("--record", options->record,
                  "Add every kernel asked for to this file, for `lutsmith warm --manifest`")
      ->type_name("FILE");
  verb.add_option("--activations", options->activations,
                  "Take rows of this matrix where it is as wide as a layer; without it, of the checkpoint's "
                  "embedding table; else normally distributed numbers")
      ->type_name("FILE.safetensors:TENSOR");
}

}  // namespace lutsmith::tools
