#include "cli/options/spec_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace lutsmith::cli {

void add_spec_options(CLI::App& verb, SpecText& text) {
  const std::string group = "SPEC: which kernel (lists such as 1,16 make one kernel per value)";
  const auto add = [&](const std::string& name, std::string& value, const std::string& type,
                       const std::string& description) {
    CLI::Option* option = verb.add_option(name, value, description)->type_name(type)->group(group);
    if (!value.empty()) option->capture_default_str();
  };
  add("--bits", text.bits, "LIST", "Bits per weight: 2, 3 or 4");
  add("--group", text.group, "LIST", "Weights per scale along K: 32, 64, 128, 256 or channel");
  add("--n", text.n, "INT", "Output channels (rows of the weight matrix)");
  add("--k", text.k, "INT", "Input channels, a multiple of 8");
  add("--m", text.m, "LIST",
      fmt::format("Tokens the kernel is tuned for; all: {}, which serve every number",
                  fmt::join(kTokenBuckets, ", ")));
  add("--dtype", text.dtype, "LIST", "Activations, output, scales and table: f16 or bf16");
  add("--table", text.table, "LIST", "scalar: one value per code; pair: two values per two codes");
  add("--target", text.target, "LIST", "GPU architecture such as sm_90a; native: this machine's GPU");
  add("--model", text.model, "LIST", "All linear layers of these models, instead of --n and --k");
  add("--tp", text.tp, "LIST", "With --model: GPUs the model is split over");
}

void add_schedule_options(CLI::App& verb, ScheduleOverride& schedule) {
  const auto add = [&](const std::string& name, auto& value, const std::string& type,
                       const std::string& description) {
    verb.add_option(name, value, description)
        ->type_name(type)
        ->group("Schedule (each replaces that field of the model's first choice)");
  };
  add("--tile-rows", schedule.tile_rows, "INT", "Output channels of a tile: 16 or 32");
  add("--tile-tokens", schedule.tile_tokens, "INT", "Tokens of a tile: 1, 8 or 16");
  add("--warps", schedule.warps, "INT", "Warps of a thread block: 1 to 16");
  add("--weights", schedule.weights, "PATH", "registers, async_copy or bulk_copy");
  add("--stages", schedule.stages, "INT",
      "Units of weights a warp holds: 2 to 3 in registers, 2 to 8 in a ring");
  add("--blocks-per-sm", schedule.blocks_per_multiprocessor, "INT",
      "Resident blocks per multiprocessor: 1 to 4");
  add("--dependent-launch", schedule.dependent_launch, "on|off",
      "Programmatic dependent launch (sm_90 and later)");
}

void add_spec_options(CLI::App& verb, SpecOptions& options) {
  add_spec_options(verb, options.text);
  add_schedule_options(verb, options.schedule);
}

}  // namespace lutsmith::cli
