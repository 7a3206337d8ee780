#include "cli/verbs/run/run_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <utility>

#include "cli/output/kernel_json.h"
#include "cli/output/printable.h"
#include "cli/verbs/run/layer_kinds.h"

namespace lutsmith::cli {
namespace {

using enum TextTable::Align;

/// Figures of several layers, added up.
struct Figures {
  std::size_t layers = 0;
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  double weight_error = 0;  ///< the worst, as the following ones
  double relative_error = 0;
  double ulps = 0;
  std::size_t compiled = 0;  ///< kernels
  std::size_t found = 0;     ///< kernels that were there already
  double milliseconds = 0;   ///< of compiling or finding them

  void add(const LayerResult& result) {
    ++layers;
    before += result.bytes_before;
    after += result.bytes_after;
    weight_error = worse(weight_error, result.layer.weight_error);
    relative_error = worse(relative_error, result.error.relative_error);
    ulps = worse(ulps, result.error.largest_ulps);
    for (const UsedKernel& kernel : result.kernels) {
      ++(kernel.compiled ? compiled : found);
      milliseconds += kernel.compile_milliseconds;
    }
  }
};

Json kernel_json(const UsedKernel& kernel) {
  Json json{{"target", kernel.target.name()},
            {"kernel_name", kernel.name},
            {"schedule", to_json(kernel.schedule)},
            {"milliseconds", kernel.compile_milliseconds}};
  if (!kernel.key.empty()) {
    json["key"] = kernel.key;
    json["cache"] = kernel.cache;
  }
  return json;
}

Json layer_json(const LayerResult& result, Device device) {
  const PackedLayer& layer = result.layer;
  Json json{{"layer", layer.name},
            {"n", layer.format.n},
            {"k", layer.format.k},
            {"bits", layer.format.bits},
            {"group", group_json(layer.format.group)},
            {"method", layer.method},
            {"bytes_before", result.bytes_before},
            {"bytes_after", result.bytes_after},
            {"weight_error", layer.weight_error},
            {"activations", result.activations},
            {"device", to_string(device)},
            {"relative_error", result.error.relative_error},
            {"allowed_error", result.error.allowed_error},
            {"largest_ulps", result.error.largest_ulps},
            {"overflowed", result.error.overflowed},
            {"wrong_overflow", result.error.wrong_overflow},
            {"not_a_number", result.error.not_a_number},
            {"nonzero", result.error.nonzero},
            {"right", result.right()}};
  if (!result.note.empty()) json["activations_note"] = result.note;
  if (!result.right()) json["fault"] = result.fault();
  json["kernels"] = Json::array();
  for (const UsedKernel& kernel : result.kernels) json["kernels"].push_back(kernel_json(kernel));
  return json;
}

std::string targets(const RunPlan& plan) {
  std::string names;
  for (const Target& target : plan.targets) names += (names.empty() ? "" : ", ") + std::string(target.name());
  return names;
}

std::string device_text(const RunPlan& plan) {
  switch (plan.device) {
    case Device::gpu:
      return fmt::format("the GPU ({})", plan.targets.front().name());
    case Device::emulator:
      return fmt::format("the emulator: the kernels' source for {}, compiled for this CPU",
                         plan.targets.front().name());
    case Device::cpu_reference:
      return "the cpu reference (float64, rounded); kernels for " + targets(plan);
  }
  return {};
}

std::string time_text(double milliseconds) {
  return milliseconds < 9999.5 ? fmt::format("{:.0f} ms", milliseconds)
                               : fmt::format("{:.0f} s", milliseconds / 1000);
}

std::vector<std::string> figure_cells(const Figures& figures, std::string shape, std::string bits) {
  return {fmt::to_string(figures.layers),
          std::move(shape),
          std::move(bits),
          byte_count(figures.before),
          byte_count(figures.after),
          fmt::format("{:.1e}", figures.weight_error),
          fmt::format("{:.1e}", figures.relative_error),
          fmt::format("{:.2g}", figures.ulps),
          fmt::to_string(figures.compiled),
          fmt::to_string(figures.found),
          time_text(figures.milliseconds)};
}

/// Two lines a kind: its name, then its figures, which leaves room for both.
void print_kinds(const std::vector<LayerResult>& results) {
  std::vector<LayerBytes> layers;
  for (const LayerResult& result : results) {
    layers.push_back({.layer = result.layer, .before = result.bytes_before, .after = result.bytes_after});
  }
  TextTable table({{"layers"},
                   {"shape"},
                   {"bits"},
                   {"before"},
                   {"after"},
                   {"weight error"},
                   {"error"},
                   {"ulps"},
                   {"compiled"},
                   {"hit"},
                   {"time"}});
  Figures total;
  for (const LayerResult& result : results) total.add(result);
  for (const LayerKind& kind : layer_kinds(layers)) {
    Figures figures;
    for (const std::size_t i : kind.layers) figures.add(results[i]);
    table.add_heading(kind.name);
    table.add_row(figure_cells(figures, shape_text(kind.format), fmt::to_string(kind.format.bits)));
  }
  if (total.layers > 1) {
    table.add_heading("in total");
    table.add_row(figure_cells(total, "", ""));
  }
  table.print();
}

void print_every_kernel(const std::vector<LayerResult>& results) {
  TextTable table({{"layer", left},
                   {"shape"},
                   {"bits"},
                   {"before"},
                   {"after"},
                   {"weight error"},
                   {"relative error"},
                   {"ulps"},
                   {"target", left},
                   {"kernel", left},
                   {"compile ms"},
                   {"cache", left}});
  for (const LayerResult& result : results) {
    for (const UsedKernel& kernel : result.kernels) {
      table.add_row({result.layer.name, shape_text(result.layer.format),
                     fmt::to_string(result.layer.format.bits), byte_count(result.bytes_before),
                     byte_count(result.bytes_after), fmt::format("{:.2e}", result.layer.weight_error),
                     fmt::format("{:.2e}{}", result.error.relative_error, result.right() ? "" : " WRONG"),
                     fmt::format("{:.2g}", result.error.largest_ulps), std::string(kernel.target.name()),
                     describe(kernel.schedule), fmt::format("{:.1f}", kernel.compile_milliseconds),
                     kernel.cache});
    }
  }
  table.print();
}

/// In lines that fit a terminal; all but the first are indented.
void print_line(const std::string& text) {
  constexpr std::size_t kWidth = 100;
  std::string line;
  std::istringstream words(printable(text));
  for (std::string word; words >> word;) {
    if (line.size() > 2 && line.size() + 1 + word.size() > kWidth) {
      print_output(line + "\n");
      line = " ";
    }
    line += (line.empty() ? "" : " ") + word;
  }
  print_output(line + "\n");
}

// Which values were multiplied with, and why not others; all layers that have the same in common.
void print_activations(const std::vector<LayerResult>& results) {
  std::map<std::pair<std::string, std::string>, std::uint64_t> counts;
  for (const LayerResult& result : results) ++counts[{result.activations, result.note}];
  for (const auto& [origin, count] : counts) {
    const auto& [source, note] = origin;
    const std::string what = source == "gaussian" ? "normal numbers" : fmt::format("rows of '{}'", source);
    print_line(fmt::format("activations of {}: {}{}", counted(count, "layer"), what,
                           note.empty() ? "" : fmt::format(" ({})", note)));
  }
}

/// The layers that share something worth a line of their own, unless there are so many that the lines of the
/// first say it all.
class SpecialLayers {
 public:
  explicit SpecialLayers(std::string_view what, bool all) : what_(what), all_(all) {}

  void add(const std::string& line) {
    constexpr std::size_t kMostLines = 10;
    if (all_ || lines_.size() < kMostLines) {
      lines_.push_back(line);
    } else {
      ++more_;
    }
  }
  void print() const {
    for (const std::string& line : lines_) print_line(line);
    if (more_ > 0)
      print_line(fmt::format("{}: and {} more; --all lists them", what_, counted(more_, "layer")));
  }

 private:
  std::string what_;
  bool all_;
  std::vector<std::string> lines_;
  std::uint64_t more_ = 0;
};

void print_special_layers(const std::vector<LayerResult>& results, bool all) {
  SpecialLayers overflow("overflow", all);
  SpecialLayers zero("all 0", all);
  SpecialLayers wrong("WRONG", all);
  for (const LayerResult& result : results) {
    if (result.error.overflowed > 0) {
      overflow.add(
          fmt::format("overflow: {} of '{}' beyond {} and infinite, as rounding makes them; use bf16",
                      counted(static_cast<std::uint64_t>(result.error.overflowed), "product"),
                      result.layer.name, to_string(result.layer.format.dtype)));
    }
    if (!result.right()) {
      wrong.add(fmt::format("WRONG: '{}': {}", result.layer.name, result.fault()));
    } else if (result.error.nonzero == 0) {
      zero.add(fmt::format("'{}': its weights are all 0, so its products are", result.layer.name));
    }
  }
  for (const SpecialLayers* layers : {&overflow, &zero, &wrong}) layers->print();
}

}  // namespace

Json run_json(const std::vector<LayerResult>& results, const RunPlan& plan, std::int64_t m) {
  Json layers = Json::array();
  for (const LayerResult& result : results) layers.push_back(layer_json(result, plan.device));
  Json json{{"m", m}, {"device", to_string(plan.device)}};
  if (!plan.no_gpu_reason.empty()) json["no_gpu_reason"] = plan.no_gpu_reason;
  if (const std::string epilogue = describe_epilogue(plan.spec); !epilogue.empty())
    json["epilogue"] = epilogue;
  json["layers"] = std::move(layers);
  return json;
}

void print_run(const std::vector<LayerResult>& results, const RunPlan& plan, std::int64_t m, bool all) {
  if (all) {
    print_every_kernel(results);
  } else {
    print_kinds(results);
  }
  const std::string epilogue = describe_epilogue(plan.spec);
  print_line(fmt::format("{} per layer, multiplied{} on {}", counted(static_cast<std::uint64_t>(m), "token"),
                         epilogue.empty() ? "" : fmt::format(" with {}", epilogue), device_text(plan)));
  if (plan.device == Device::cpu_reference) {
    std::istringstream reason(plan.no_gpu_reason);
    std::string before = "not on the GPU: ";
    for (std::string line; std::getline(reason, line); before = "  ") print_line(before + line);
  }
  print_activations(results);
  print_line(fmt::format(
      "weight error: packed against original weights; {}error: product against float64, relative and in "
      "ulps, units of the last place{}",
      all ? "relative " : "", all ? "" : "; each the worst of its kind. --all lists every layer"));
  print_special_layers(results, all);
}

}  // namespace lutsmith::cli
