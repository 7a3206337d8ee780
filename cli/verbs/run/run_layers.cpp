#include "cli/verbs/run/run_layers.h"

#include <fmt/format.h>

#include <span>
#include <utility>
#include <variant>

#include "cli/open_service.h"
#include "cli/output/output.h"
#include "cli/output/progress.h"
#include "cli/verbs/run/emulate.h"
#include "cli/verbs/run/multiply.h"
#include "core/result.h"
#include "lutsmith/service.h"

namespace lutsmith::cli {
namespace {

/// What compiles and multiplies: the library's service, or the emulator in its place.
using Engine = std::variant<Service, Emulation>;

struct Multiplication {
  std::vector<UsedKernel> kernels;  ///< one per target
  std::vector<float> values;        ///< Y
};

Result<Engine> open_engine(const RunPlan& plan) {
  if (plan.device == Device::emulator) return Emulation::start();
  ServiceOptions options;
  options.record = plan.record;
  return open_service(std::move(options));
}

Result<QuantizedMatrix> unpack_layer(const PackedLayer& layer, const LayerWeights& weights) {
  auto matrix = unpack(weights.packed, layer.format);
  if (!matrix) return matrix;
  if (!layer.format.row_tables()) matrix->table = weights.table;
  return matrix;
}

/// X, what is added to its product, and what all that should give.
struct Problem {
  Activations activations;
  measure::AddedTerms added;
  std::vector<double> reference;  ///< Y in float64
};

/// One layer's work; spec.target is the plan's first.
struct Task {
  const LayerWeights& weights;
  KernelSpec spec;
  const Problem& problem;

  LayerInputs inputs() const { return {weights, problem.activations.values, problem.added}; }
};

Result<Multiplication> multiply(Service& service, const Task& task, const RunPlan& plan) {
  Multiplication result;
  for (const Target& target : plan.targets) {
    KernelSpec spec = task.spec;
    spec.target = target;
    const auto compiled = service.compile(spec);
    if (!compiled) return std::unexpected(compiled.error());
    result.kernels.push_back({.target = target,
                              .schedule = compiled->choice.schedule,
                              .name = compiled->artifact->kernel_name,
                              .compiled = compiled->origin == Origin::compiled,
                              .compile_milliseconds = compiled->milliseconds,
                              .key = compiled->artifact->key,
                              .cache = cache_outcome(compiled->origin)});
  }
  if (plan.device == Device::cpu_reference) {
    result.values = round_product(task.problem.reference, task.spec.output_type());
    return result;
  }
  const auto kernel = service.get(task.spec);
  if (!kernel) return std::unexpected(kernel.error());
  auto output = multiply_on_gpu(service, *kernel, task.spec, task.inputs());
  if (!output) return std::unexpected(output.error());
  result.values = std::move(*output);
  return result;
}

Result<Multiplication> multiply(Emulation& emulation, const Task& task, const RunPlan& plan) {
  auto product = emulation.multiply(task.spec, task.inputs());
  if (!product) return std::unexpected(product.error());
  Multiplication result;
  result.kernels.push_back({.target = plan.targets.front(),
                            .schedule = product->schedule,
                            .name = product->kernel_name,
                            .compiled = product->compiled,
                            .compile_milliseconds = product->compile_milliseconds,
                            .key = {}});
  result.values = std::move(product->values);
  return result;
}

// Whether a kernel that computes nothing would pass.
bool tests_nothing(std::span<const double> product, DataType dtype) {
  const KernelSpec spec{.format = {.dtype = dtype}};
  return product_error(round_product(product, spec.output_type()), product, spec).nonzero == 0;
}

/// X and its product.
struct PlainProblem {
  Activations activations;
  std::vector<double> product;
};

Result<PlainProblem> make_plain_problem(const QuantizedMatrix& matrix, ActivationSource& source) {
  const std::int64_t k = matrix.format.k;
  auto activations = source.make(k, matrix.format.dtype);
  if (!activations) return std::unexpected(activations.error());
  auto product = reference_matmul(matrix, activations->values, source.m());
  if (!product) return std::unexpected(product.error());
  PlainProblem problem{*std::move(activations), *std::move(product)};
  if (problem.activations.source == "gaussian" || !tests_nothing(problem.product, matrix.format.dtype))
    return problem;
  const std::string name = problem.activations.source;
  problem.activations = gaussian_activations(source.m(), k, matrix.format.dtype,
                                             fmt::format("with the rows of '{}' every product is 0", name));
  product = reference_matmul(matrix, problem.activations.values, source.m());
  if (!product) return std::unexpected(product.error());
  problem.product = *std::move(product);
  if (source.asked() && !tests_nothing(problem.product, matrix.format.dtype)) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("activations: with the rows of '{}' every product is 0 in {}, which tests nothing; "
                          "name another tensor",
                          name, to_string(matrix.format.dtype)),
              {}});
  }
  return problem;
}

Result<Problem> make_problem(const QuantizedMatrix& matrix, const KernelSpec& spec,
                             ActivationSource& source) {
  if (Result<void> valid = validate_epilogue(spec); !valid) return failure(valid);
  auto plain = make_plain_problem(matrix, source);
  if (!plain) return std::unexpected(plain.error());
  constexpr std::uint64_t kSeed = 1;
  Problem problem{.activations = std::move(plain->activations),
                  .added = measure::make_added_terms(spec, plain->product, kSeed),
                  .reference = {}};
  auto reference = reference_epilogue(
      std::move(plain->product), spec.format,
      {.gated = spec.gated, .bias = problem.added.bias, .residual = problem.added.residual});
  if (!reference) return std::unexpected(reference.error());
  problem.reference = *std::move(reference);
  return problem;
}

Result<LayerResult> run_layer(Engine& engine, const StoredLayer& stored, const RunPlan& plan,
                              ActivationSource& source) {
  const PackedLayer& layer = stored.layer;
  const auto weights = stored.read();
  if (!weights) return std::unexpected(weights.error());
  const auto matrix = unpack_layer(layer, *weights);
  if (!matrix) return std::unexpected(matrix.error());
  KernelSpec spec = plan.spec;
  spec.format = layer.format;
  spec.m = source.m();
  spec.target = plan.targets.front();
  const auto problem = make_problem(*matrix, spec, source);
  if (!problem) return std::unexpected(problem.error());
  const Task task{*weights, spec, *problem};
  auto product = std::visit([&](auto& with) { return multiply(with, task, plan); }, engine);
  if (!product) return std::unexpected(product.error());
  return LayerResult{.layer = layer,
                     .bytes_before = static_cast<std::uint64_t>(layer.format.n * layer.format.k *
                                                                floating_bytes(layer.source_dtype)),
                     .bytes_after = stored.packed_size,
                     .activations = problem->activations.source,
                     .note = problem->activations.note,
                     .error = product_error(product->values, problem->reference, spec),
                     .kernels = std::move(product->kernels)};
}

}  // namespace

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

bool LayerResult::right() const { return fault().empty(); }

std::string LayerResult::fault() const {
  if (error.not_a_number > 0)
    return fmt::format("{} not a number", counted(static_cast<std::uint64_t>(error.not_a_number), "product"));
  if (error.wrong_overflow > 0) {
    return fmt::format("{} infinite though {} can hold the right one, or finite though it cannot",
                       counted(static_cast<std::uint64_t>(error.wrong_overflow), "product"),
                       to_string(layer.format.dtype));
  }
  if (!error.right()) {
    return fmt::format("relative error {:.2e}, allowed {:.2e}", error.relative_error, error.allowed_error);
  }
  if (error.nonzero == 0 && layer.weight_error > 0) {
    return fmt::format("every product is 0 in {}: quantizing or {} lost the values",
                       to_string(layer.format.dtype), to_string(layer.format.dtype));
  }
  return {};
}

Result<std::vector<LayerResult>> run_layers(const std::vector<StoredLayer>& layers, const RunPlan& plan,
                                            ActivationSource& source) {
  auto engine = open_engine(plan);
  if (!engine) return std::unexpected(engine.error());
  Progress progress(layers.size());
  std::vector<LayerResult> results;
  for (const StoredLayer& stored : layers) {
    auto result = run_layer(*engine, stored, plan, source);
    if (!result) {
      Error error = result.error();
      error.message = fmt::format("layer '{}': {}", stored.layer.name, error.message);
      return std::unexpected(std::move(error));
    }
    progress.advance(
        fmt::format("{}: relative error {:.2e}", stored.layer.name, result->error.relative_error));
    results.push_back(std::move(*result));
  }
  return results;
}

}  // namespace lutsmith::cli
