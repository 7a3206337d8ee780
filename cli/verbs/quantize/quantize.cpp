#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "cli/command.h"
#include "cli/output/output.h"
#include "cli/output/printable.h"
#include "cli/output/progress.h"
#include "cli/verbs/quantize/importance.h"
#include "cli/verbs/quantize/output_place.h"
#include "cli/verbs/quantize/quantize_report.h"
#include "cli/verbs/quantize/quantize_shard.h"
#include "cli/verbs/quantize/shard_index.h"
#include "cli/verbs/quantize/tensor_plan.h"
#include "core/parallel.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

namespace fs = std::filesystem;

struct QuantizeOptions {
  std::string input;
  std::string output;
  std::string method = "nf";
  int bits = 4;
  std::string group = "64";
  std::string dtype = "f16";
  std::string scales;
  std::string importance;
  std::string layers;
  std::string skip;
  std::vector<std::string> rules;
  int jobs = 0;
  bool all = false;
};

/// The error of an option with an expression in it. Where that cannot be parsed for it is a wildcard, the
/// answer holds names of this checkpoint, if it can be read.
std::unexpected<Error> refuse_expression(std::string_view option, const std::string& expression, Error error,
                                         const QuantizeOptions& options) {
  if (NamePattern::parse(option, expression)) return std::unexpected(std::move(error));
  if (const auto input = Checkpoint::open(options.input)) {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : input->tensors()) names.push_back(name);
    error.context = wildcard_advice(option, expression, names);
  }
  return std::unexpected(std::move(error));
}

Result<std::optional<NamePattern>> parse_pattern(std::string_view option, const std::string& text,
                                                 const QuantizeOptions& options) {
  if (text.empty()) return std::nullopt;
  auto pattern = NamePattern::parse(option, text);
  if (!pattern) return refuse_expression(option, text, pattern.error(), options);
  return *std::move(pattern);
}

Result<PlanOptions> parse_options(const QuantizeOptions& options) {
  PlanOptions plan;
  const auto group = parse_group(options.group);
  if (!group) return std::unexpected(group.error());
  const auto dtype = parse_data_type(options.dtype);
  if (!dtype) return std::unexpected(dtype.error());
  plan.settings = {options.method, options.bits, *group, *dtype};
  if (!options.scales.empty()) {
    const auto scales = parse_scale_choice(options.scales);
    if (!scales) return std::unexpected(scales.error());
    plan.settings.scales = *scales;
  }
  if (const auto table = table_for(plan.settings); !table) return std::unexpected(table.error());
  auto layers = parse_pattern("layers", options.layers, options);
  if (!layers) return std::unexpected(layers.error());
  plan.layers = *std::move(layers);
  auto skip = parse_pattern("skip", options.skip, options);
  if (!skip) return std::unexpected(skip.error());
  plan.skip = *std::move(skip);
  for (const std::string& text : options.rules) {
    auto rule = parse_layer_rule(text);
    if (!rule) return refuse_expression("rule", text.substr(0, text.rfind('=')), rule.error(), options);
    plan.rules.push_back(*std::move(rule));
  }
  return plan;
}

Result<Checkpoint> open_input(const std::string& path) {
  auto input = Checkpoint::open(path);
  if (!input) return input;
  for (const Shard& shard : input->shards()) {
    if (is_packed(shard.file)) {
      return refuse(
          fmt::format("input: '{}' is quantized already; give the original checkpoint", printable(path)));
    }
  }
  return input;
}

/// Of the two at least one is quantized; what is copied keeps its name, which no other had.
std::unexpected<Error> two_of_a_name(const std::string& name, const TensorDecision& one,
                                     const TensorDecision& other) {
  const TensorDecision& layer = one.left_alone ? other : one;
  const TensorDecision& taken_by = one.left_alone ? one : other;
  return refuse(
      fmt::format("input: layer '{}' would become '{}', {}; rename it, or leave the layer out with --skip",
                  printable(layer.name, 100), printable(name, 100),
                  taken_by.left_alone ? "a tensor that is there already"
                                      : fmt::format("and so would '{}'", printable(taken_by.name, 100))));
}

Result<std::vector<TensorDecision>> plan_checkpoint(const Checkpoint& input, const PlanOptions& options) {
  std::map<std::string, TensorInfo> tensors;
  for (const auto& [name, tensor] : input.tensors()) tensors.emplace(name, tensor.info);
  auto decisions = plan_tensors(tensors, options);
  if (!decisions) return decisions;
  std::map<std::string, const TensorDecision*> written;
  for (const TensorDecision& decision : *decisions) {
    const auto becomes = written_tensors(decision);
    if (!becomes) return std::unexpected(becomes.error());
    for (const TensorToWrite& tensor : *becomes) {
      const auto [other, is_new] = written.emplace(tensor.name, &decision);
      if (!is_new) return two_of_a_name(tensor.name, *other->second, decision);
    }
  }
  return decisions;
}

/// Decisions shard by shard, in the order of the shards.
std::vector<std::vector<TensorDecision>> by_shard(const Checkpoint& input,
                                                  const std::vector<TensorDecision>& all) {
  std::vector<std::vector<TensorDecision>> result(input.shards().size());
  for (const TensorDecision& decision : all)
    result[input.tensors().at(decision.name).shard].push_back(decision);
  return result;
}

std::uint64_t bytes_after(const TensorDecision& decision) {
  if (decision.left_alone) return decision.tensor.bytes;
  std::uint64_t bytes = 0;
  for (const PackedLayer& layer : packed_layers(decision)) {
    bytes += *packed_bytes(layer.format) +
             sizeof(std::uint16_t) *
                 static_cast<std::uint64_t>(table_length(layer.format.bits, layer.format.table));
  }
  return bytes;
}

Result<void> write_file_of_one(const Checkpoint& input, const Importance& importance, QuantizeResult& result,
                               unsigned jobs, Progress& progress) {
  auto layers = quantize_shard(input.shards().front().file, result.decisions, importance, result.output, jobs,
                               progress);
  if (!layers) return std::unexpected(layers.error());
  result.layers = *std::move(layers);
  return {};
}

Result<void> write_shards(const Checkpoint& input, const Importance& importance, QuantizeResult& result,
                          unsigned jobs, Progress& progress) {
  auto folder = OutputFolder::create(result.output);
  if (!folder) return std::unexpected(folder.error());
  if (auto room = check_room(folder->path(), result.total_after); !room) return room;
  const auto decisions = by_shard(input, result.decisions);
  ShardIndex index;
  for (std::size_t i = 0; i < decisions.size(); ++i) {
    const Shard& shard = input.shards()[i];
    auto layers =
        quantize_shard(shard.file, decisions[i], importance, folder->path() / shard.name, jobs, progress);
    if (!layers) return std::unexpected(layers.error());
    std::ranges::move(*layers, std::back_inserter(result.layers));
    result.files.push_back(shard.name);
    for (const TensorDecision& decision : decisions[i]) {
      const auto tensors = written_tensors(decision);
      if (!tensors) return std::unexpected(tensors.error());
      for (const TensorToWrite& tensor : *tensors) index.files[tensor.name] = shard.name;
    }
  }
  index.total_bytes = result.total_after;
  if (!input.index().empty() || decisions.size() > 1) {
    const auto name = write_index(folder->path(), index, input);
    if (!name) return std::unexpected(name.error());
    result.files.push_back(*name);
  }
  return folder->commit(result.files);
}

/// Learned tables that count all channels alike have the least error of weights, and made a model worse than
/// NormalFloat did (docs/quantizers.md).
void warn_of_unweighed_tables(const QuantizeOptions& options, const std::vector<TensorDecision>& decisions) {
  if (!options.importance.empty()) return;
  const auto learned = std::ranges::count_if(decisions, [](const TensorDecision& decision) {
    return !decision.left_alone && decision.settings.learns_table();
  });
  if (learned == 0) return;
  print_warning(
      "method kmeans without --importance has made models worse than nf, though its weights are closer; "
      "--importance takes a file with the mean of x^2 of each input channel, as lutsmith.calibrate of the "
      "Python package collects it");
}

bool is_folder_of_files(const QuantizeOptions& options, const Checkpoint& input) {
  std::error_code ignored;
  return !input.index().empty() || fs::is_directory(options.input, ignored);
}

Result<ExitCode> run_quantize(const QuantizeOptions& options, bool json) {
  const auto plan_options = parse_options(options);
  if (!plan_options) return std::unexpected(plan_options.error());
  const auto input = open_input(options.input);
  if (!input) return std::unexpected(input.error());
  const bool folder = is_folder_of_files(options, *input);
  if (!folder) {
    if (auto possible = check_output_file(options.output, *input); !possible)
      return std::unexpected(possible.error());
  }
  auto decisions = plan_checkpoint(*input, *plan_options);
  if (!decisions) return std::unexpected(decisions.error());
  const auto importance = Importance::open(options.importance, *decisions);
  if (!importance) return std::unexpected(importance.error());
  warn_of_unweighed_tables(options, *decisions);
  QuantizeResult result{.input = options.input,
                        .output = options.output,
                        .settings = plan_options->settings,
                        .decisions = *std::move(decisions),
                        .layers = {},
                        .files = {}};
  for (const TensorDecision& decision : result.decisions) {
    result.total_before += decision.tensor.bytes;
    result.total_after += bytes_after(decision);
  }
  {
    Progress progress(static_cast<std::size_t>(std::ranges::count_if(
        result.decisions, [](const TensorDecision& decision) { return !decision.left_alone; })));
    const unsigned jobs = job_count(options.jobs);
    const auto written = folder ? write_shards(*input, *importance, result, jobs, progress)
                                : write_file_of_one(*input, *importance, result, jobs, progress);
    if (!written) return std::unexpected(written.error());
  }
  if (json) {
    print_json(result_json(result));
  } else {
    print_result(result, options.all);
  }
  return ExitCode::success;
}

constexpr const char* kExamples =
    "  lutsmith quantize model.safetensors -o model-nf4.safetensors\n"
    "  lutsmith quantize folder-with-shards -o folder-nf4\n"
    "  lutsmith quantize model.safetensors -o mlp-int3.safetensors --method int --bits 3 --group 128 \\\n"
    "      --layers 'mlp\\.(gate|up|down)_proj\\.weight$' --skip '\\.layers\\.0\\.'\n"
    "  lutsmith quantize model.safetensors -o learned.safetensors --method kmeans --bits 3 \\\n"
    "      --importance mean-squares.safetensors\n"
    "  lutsmith quantize model.safetensors -o mixed.safetensors --rule 'down_proj=bits:3,group:128' \\\n"
    "      --rule 'lm_head=bits:4,group:32'\n"
    "Patterns are regular expressions (RE2's) that are looked for in the names of tensors. Without --layers "
    "the\n"
    "linear layers are quantized: *.weight of 64 x 64 or more with k a multiple of 8, and stacks of experts\n"
    "[experts, n, k]. Routers, output heads, embeddings and LoRA factors are left in 16 bits unless "
    "--layers, or\n"
    "a --rule that matches nothing else, asks for them. What is quantized already is never quantized again.";

}  // namespace

void add_quantize(CLI::App& app, Context& context) {
  const auto options = std::make_shared<QuantizeOptions>();
  CLI::App& verb = add_verb(app, context,
                            {.name = "quantize",
                             .description = "Quantize and pack the linear layers of a safetensors checkpoint",
                             .examples = kExamples,
                             .work = [options, &context] { return run_quantize(*options, context.json); }});
  verb.add_option("input", options->input,
                  "Checkpoint to read: a file, a folder of shards, or their model.safetensors.index.json")
      ->required()
      ->type_name("IN");
  verb.add_option("-o,--output", options->output,
                  "Checkpoint to write, whole or not at all: a file, or a new folder where the input is one")
      ->required()
      ->type_name("OUT");
  verb.add_option(
          "--method", options->method,
          "Table: nf (normal float), int (symmetric), fp (e2m1, 4 bits), lloyd (least error of normal "
          "weights) or kmeans (learned from each matrix)")
      ->capture_default_str()
      ->type_name("NAME");
  verb.add_option(
          "--scales", options->scales,
          "How each group's scale is chosen: absmax (its largest weight on the table's largest entry), "
          "mse (least squared error, takes 20 times as long) or rms (root mean square of its weights, for "
          "lloyd). Default: mse with lloyd and kmeans, else absmax")
      ->type_name("HOW");
  verb.add_option("--importance", options->importance,
                  "With mse: a safetensors file that says for each weight, under its name, how much each of "
                  "its k input channels counts, such as the mean of x^2")
      ->type_name("FILE");
  verb.add_option("--bits", options->bits, "Bits per weight: 1 to 8; kernels multiply 1 to 4")
      ->capture_default_str()
      ->type_name("INT");
  verb.add_option("--group", options->group, "Weights per scale: 32, 64, 128, 256 or channel")
      ->capture_default_str()
      ->type_name("GROUP");
  verb.add_option("--dtype", options->dtype, "Scales, table and activations: f16 or bf16")
      ->capture_default_str()
      ->type_name("TYPE");
  verb.add_option("--layers", options->layers,
                  "Quantize the matrices whose name this is found in, and no others")
      ->type_name("REGEX");
  verb.add_option("--skip", options->skip, "But not those whose name this is found in")->type_name("REGEX");
  verb.add_option(
          "--rule", options->rules,
          "Other settings for some layers: 'REGEX=bits:3,group:64' with the keys bits, group, method, dtype "
          "and scales. May be given several times; where two rules set the same key, the later one counts")
      ->allow_extra_args(false)
      ->type_name("RULE");
  verb.add_flag("--all", options->all, "List every layer and every tensor that was left alone");
  verb.add_option("--jobs", options->jobs, "Threads that quantize; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->type_name("INT");
}

}  // namespace lutsmith::cli
