#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "checkpoint/packed_file.h"
#include "cli/command.h"
#include "cli/options/spec_options.h"
#include "cli/options/spec_request.h"
#include "cli/output/output.h"
#include "cli/verbs/run/activations.h"
#include "cli/verbs/run/run_layers.h"
#include "cli/verbs/run/run_report.h"
#include "runtime/driver.h"
#include "runtime/recorder.h"

namespace lutsmith::cli {
namespace {

struct RunOptions {
  std::string input;
  std::int64_t m = 8;
  std::string target;
  bool emulate = false;
  std::string activations;
  std::string record;
  bool all = false;
  SpecText epilogue;
};

Result<RunPlan> plan_emulation(const std::string& target_list) {
  RunPlan plan{.device = Device::emulator, .no_gpu_reason = {}, .targets = {}};
  if (target_list.empty()) {
    plan.targets = {native_target().value_or(*Target::parse("sm_90a"))};
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

/// In the driver's words, which know no option of the command line, where it is the driver that fails.
std::string why_no_gpu(const Error& native) {
  const auto text = [](const Error& error) {
    // Where nothing was found, the places that were searched tell no more.
    const bool more = error.code != ErrorCode::not_found && !error.context.empty();
    return error.message + (more ? "\n" + error.context : "");
  };
  const auto driver = cuda::Driver::open();
  if (!driver) return text(driver.error());
  if (const auto device = (*driver)->device(0); !device) return text(device.error());
  return text(native);
}

Result<RunPlan> plan_service(const std::string& target_list) {
  RunPlan plan;
  if (const auto native = native_target()) {
    plan.device = Device::gpu;
    plan.targets.push_back(*native);
  } else {
    plan.no_gpu_reason = why_no_gpu(native.error());
  }
  if (target_list.empty() && plan.device == Device::gpu) return plan;
  const auto targets = parse_targets(target_list.empty() ? "sm_80,sm_90a" : target_list);
  if (!targets) return std::unexpected(targets.error());
  for (const Target& target : *targets) {
    if (std::ranges::find(plan.targets, target) == plan.targets.end()) plan.targets.push_back(target);
  }
  return plan;
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
  const auto epilogue = read_epilogue(options.epilogue);
  if (!epilogue) return std::unexpected(epilogue.error());
  plan->spec = *epilogue;
  plan->record = options.record;
  const auto checkpoint = Checkpoint::open(options.input);
  if (!checkpoint) return std::unexpected(checkpoint.error());
  const auto layers = stored_layers(*checkpoint);
  if (!layers) return std::unexpected(layers.error());
  std::vector<std::int64_t> widths;
  for (const StoredLayer& stored : *layers) widths.push_back(stored.layer.format.k);
  auto source = ActivationSource::open(*checkpoint, options.activations, options.m, widths);
  if (!source) return std::unexpected(source.error());
  const auto results = run_layers(*layers, *plan, *source);
  if (!results) return std::unexpected(results.error());
  if (json) {
    print_json(run_json(*results, *plan, options.m));
  } else {
    print_run(*results, *plan, options.m, options.all);
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
           "  lutsmith run folder-nf4\n"
           "  lutsmith run model-nf4.safetensors --m 1 --target sm_80,sm_90a --json\n"
           "  lutsmith run model-nf4.safetensors --m 1 --emulate\n"
           "  lutsmith run model-nf4.safetensors --residual on\n"
           "Multiplies on the GPU, or on the CPU reference where there is none. Exit code 1 where a\n"
           "result is further from float64 than rounding explains; products beyond f16 that became\n"
           "infinite are told, and are no fault of the kernel.\n"
           "A residual and a bias are random numbers; rows of gates are taken to alternate already.\n"
           "With --emulate the kernel that was written for the GPU runs on the CPU, thread by thread. That\n"
           "needs no GPU but a C++ compiler (LUTSMITH_HOST_CXX, else c++, g++ or clang++ in PATH), whose\n"
           "time 'time' (with --all, 'compile ms') then shows; nothing is compiled with NVRTC or cached. "
           "Access out of bounds,\n"
           "data races and endless waits are errors that name the line.",
       .work = [options, &context] { return run_packed(*options, context.json); }});
  verb.add_option("input", options->input,
                  "Checkpoint made by `lutsmith quantize`: a file, a folder of shards, or their "
                  "model.safetensors.index.json")
      ->required()
      ->type_name("IN");
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
  verb.add_flag("--all", options->all, "List every layer and kernel instead of one line per kind of layer");
  verb.add_option("--record", options->record,
                  "Add every kernel asked for to this file, for `lutsmith warm --manifest`")
      ->type_name("FILE");
  verb.add_option("--activations", options->activations,
                  "Take rows of this matrix for layers as wide as it is; without it, of the checkpoint's "
                  "embedding table. Other layers get normally distributed numbers")
      ->type_name("FILE.safetensors:TENSOR");
  add_epilogue_options(verb, options->epilogue);
}

}  // namespace lutsmith::cli
