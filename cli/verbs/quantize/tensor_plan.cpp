#include "cli/verbs/quantize/tensor_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "checkpoint/packed_file.h"
#include "cli/output/printable.h"
#include "cli/verbs/quantize/quantized_formats.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

using Tensors = std::map<std::string, TensorInfo>;
using Decisions = std::vector<TensorDecision>;

constexpr std::int64_t kColumnMultiple = 8;
// Layers smaller than this gain nothing from packing. A stack of experts is a layer whatever its size; below
// a panel of rows and a group of columns it would be mostly padding.
constexpr std::int64_t kSmallestSide = 64;
constexpr std::int64_t kSmallestExpertSide = 32;
constexpr std::size_t kShownName = 80;

// ---- Names
// -------------------------------------------------------------------------------------------------------

std::string lower_case(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return result;
}

// "model.layers.0.mlp.gate.weight" -> {"model", "layers", "0", "mlp", "gate", "weight"}
std::vector<std::string_view> parts_of(std::string_view name) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    parts.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

template <std::size_t kCount>
bool is_one_of(std::string_view part, const std::array<std::string_view, kCount>& words) {
  return std::ranges::find(words, part) != words.end();
}

/// The kinds of matrices that models keep in 16 bits, by the names that model families give them.
std::optional<LeftAlone> sensitive_kind(std::string_view name) {
  constexpr std::array<std::string_view, 4> kRouters{"gate", "wg", "gating", "shared_expert_gate"};
  constexpr std::array<std::string_view, 5> kHeads{"lm_head", "embed_out", "score", "classifier",
                                                   "qa_outputs"};
  constexpr std::array<std::string_view, 6> kEmbeddings{"wte", "wpe", "shared", "emb", "tok_emb", "pos_emb"};
  const std::string lower = lower_case(name);
  std::vector<std::string_view> parts = parts_of(lower);
  if (parts.size() > 1 && parts.back() == "weight") parts.pop_back();
  const std::string_view module = parts.back();
  const auto any_part = [&parts](const auto& is_so) { return std::ranges::any_of(parts, is_so); };
  if (any_part([](std::string_view part) { return part.starts_with("lora_"); }))
    return LeftAlone::lora_factor;
  if (is_one_of(module, kRouters) || lower.contains("router")) return LeftAlone::router;
  if (any_part([&](std::string_view part) { return is_one_of(part, kHeads); })) return LeftAlone::output_head;
  // Llama's own name, others', and BERT's; elsewhere "output" and "decoder" are layers like all.
  if (lower == "output.weight" || module == "head" || lower.ends_with("cls.predictions.decoder.weight")) {
    return LeftAlone::output_head;
  }
  if (lower.contains("embed") || is_one_of(module, kEmbeddings)) return LeftAlone::embedding;
  return std::nullopt;
}

bool is_expert_stack(std::string_view name, const TensorInfo& tensor) {
  const std::string lower = lower_case(name);
  return tensor.shape.size() == 3 && (lower.contains("expert") || lower.contains("moe"));
}

// ---- One tensor
// --------------------------------------------------------------------------------------------------

/// Why a tensor cannot be quantized whoever asks for it.
std::optional<LeftAlone> impossible(const TensorDecision& decision) {
  const TensorInfo& tensor = decision.tensor;
  if (!decision.format.empty()) return LeftAlone::quantized_already;
  if (tensor.shape.size() < 2 || tensor.bytes == 0 || decision.name.ends_with("bias"))
    return LeftAlone::vector;
  if (floating_bytes(tensor.dtype) == 0) return LeftAlone::other_type;
  if (tensor.shape.size() > 2 && decision.experts == 0) return LeftAlone::many_dimensions;
  if (decision.k % kColumnMultiple != 0) return LeftAlone::odd_k;
  // Of what is left only the size can be wrong, whatever the settings.
  const WeightFormat format{.n = decision.n, .k = decision.k};
  if (!validate(format)) return LeftAlone::too_large;
  return std::nullopt;
}

/// Why a tensor that could be quantized is not, unless somebody asks for it.
std::optional<LeftAlone> unwanted(const TensorDecision& decision) {
  const std::int64_t smallest = decision.experts > 0 ? kSmallestExpertSide : kSmallestSide;
  if (const auto kind = sensitive_kind(decision.name)) return kind;
  if (decision.experts == 0 && !decision.name.ends_with(".weight")) return LeftAlone::other_name;
  if (decision.n < smallest || decision.k < smallest) return LeftAlone::too_small;
  return std::nullopt;
}

Decisions describe_tensors(const Tensors& tensors) {
  const auto quantized = quantized_tensors(tensors);
  Decisions decisions;
  for (const auto& [name, tensor] : tensors) {
    TensorDecision decision{.name = name, .tensor = tensor, .left_alone = {}};
    if (const auto found = quantized.find(name); found != quantized.end()) {
      decision.format = found->second.name;
      decision.format_advice = found->second.advice;
    }
    const auto& shape = tensor.shape;
    if (is_expert_stack(name, tensor)) decision.experts = shape[0];
    if (shape.size() >= 2) {
      decision.n = shape[shape.size() - 2];
      decision.k = shape[shape.size() - 1];
    }
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

void decide_by_default(Decisions& decisions, const std::vector<LayerRule>& rules) {
  for (TensorDecision& decision : decisions) {
    decision.left_alone = impossible(decision);
    if (!decision.left_alone) decision.left_alone = unwanted(decision);
  }
  // 'lm_head=bits:4' asks for the head; 'layers\.0\.=bits:3' matches a router too, but is about its
  // neighbours.
  for (const LayerRule& rule : rules) {
    std::vector<TensorDecision*> asked_for;
    bool about_others = false;
    for (TensorDecision& decision : decisions) {
      if (!rule.pattern.found_in(decision.name) || impossible(decision)) continue;
      about_others = about_others || (!decision.left_alone && !decision.asked_for);
      asked_for.push_back(&decision);
    }
    if (about_others) continue;
    for (TensorDecision* decision : asked_for) {
      decision->asked_for = true;
      decision->left_alone.reset();
    }
  }
}

void decide_by_pattern(Decisions& decisions, const NamePattern& layers) {
  for (TensorDecision& decision : decisions) {
    decision.left_alone = impossible(decision);
    decision.asked_for = layers.found_in(decision.name);
    // Of what cannot be taken the reason says more than that nobody named it.
    if (!decision.asked_for && !decision.left_alone) decision.left_alone = LeftAlone::not_selected;
  }
}

// ---- Errors
// ------------------------------------------------------------------------------------------------------

std::vector<std::string> names_of(const Decisions& decisions) {
  std::vector<std::string> names;
  for (const TensorDecision& decision : decisions) names.push_back(decision.name);
  return names;
}

/// "12 x GPTQ, quantized already (model.layers.0.up_proj.qweight I32 [8, 64], ...): give the ..."
std::string why_nothing(const Decisions& decisions) {
  struct Kind {
    std::size_t count = 0;
    const TensorDecision* example = nullptr;
  };
  std::map<std::pair<LeftAlone, std::string>, Kind> kinds;
  for (const TensorDecision& decision : decisions) {
    if (!decision.left_alone) continue;
    Kind& kind = kinds[{*decision.left_alone, decision.format}];
    ++kind.count;
    // The largest says more than a scale beside it.
    if (kind.example == nullptr || decision.tensor.bytes > kind.example->tensor.bytes)
      kind.example = &decision;
  }
  std::string text;
  for (const auto& [key, kind] : kinds) {
    const auto& [reason, format] = key;
    const std::string_view todo =
        format.empty() ? text_of(reason).advice : std::string_view(kind.example->format_advice);
    text += fmt::format("{} {}{}{}, such as '{}' {} [{}]{}{}\n", kind.count, text_of(reason).title,
                        format.empty() ? "" : " as ", format, printable(kind.example->name, kShownName),
                        printable(kind.example->tensor.dtype, 20),
                        fmt::join(kind.example->tensor.shape, ", "), todo.empty() ? "" : ": ", todo);
  }
  return text;
}

Result<void> check_found(std::string_view option, const NamePattern& pattern, const Decisions& decisions) {
  if (std::ranges::any_of(decisions, [&](const auto& decision) { return pattern.found_in(decision.name); }))
    return {};
  std::string context = wildcard_advice(option, pattern.text(), names_of(decisions));
  if (context.empty()) {
    context = fmt::format("it holds {} tensors", decisions.size());
    for (std::size_t i = 0; i < std::min<std::size_t>(3, decisions.size()); ++i) {
      context +=
          fmt::format("{}'{}'", i == 0 ? ", such as " : ", ", printable(decisions[i].name, kShownName));
    }
  }
  return refuse(
      fmt::format("{}: no tensor's name matches '{}'", option, printable(pattern.text(), kShownName)),
      context);
}

Result<void> check_something_left(const Decisions& decisions, const PlanOptions& options) {
  if (std::ranges::any_of(decisions, [](const auto& decision) { return !decision.left_alone; })) return {};
  if (decisions.empty()) return refuse("input: the checkpoint holds no tensor");
  if (!options.layers) {
    return refuse("input: no tensor can be quantized as a linear layer", why_nothing(decisions));
  }
  Decisions asked_for;
  std::ranges::copy_if(decisions, std::back_inserter(asked_for), &TensorDecision::asked_for);
  return refuse(fmt::format("layers: nothing that '{}' matches can be quantized",
                            printable(options.layers->text(), kShownName)),
                why_nothing(asked_for));
}

// ---- Settings
// ----------------------------------------------------------------------------------------------------

Result<void> set_layers(Decisions& decisions, const PlanOptions& options) {
  std::vector<bool> used(options.rules.size());
  std::vector<LayerSettings> good;
  for (TensorDecision& decision : decisions) {
    if (decision.left_alone) continue;
    decision.settings = settings_for(decision.name, options.settings, options.rules);
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (options.rules[i].pattern.found_in(decision.name)) used[i] = true;
    }
    if (std::ranges::find(good, decision.settings) != good.end()) continue;
    if (const auto table = table_for(decision.settings); !table) {
      Error error = table.error();
      error.message = fmt::format("'{}': {}", printable(decision.name, kShownName), error.message);
      return std::unexpected(std::move(error));
    }
    good.push_back(decision.settings);
  }
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (used[i]) continue;
    const LayerRule& rule = options.rules[i];
    if (auto found = check_found("rule", rule.pattern, decisions); !found) return found;
    Decisions matched;
    std::ranges::copy_if(decisions, std::back_inserter(matched),
                         [&](const auto& decision) { return rule.pattern.found_in(decision.name); });
    return refuse(
        fmt::format("rule: nothing that '{}' matches is quantized", printable(rule.text, kShownName)),
        why_nothing(matched));
  }
  return {};
}

}  // namespace

const LeftAloneText& text_of(LeftAlone reason) {
  constexpr std::string_view kAsk = "quantized where --layers, or a --rule of their own, asks for them";
  static constexpr std::array<LeftAloneText, 14> kTexts{{
      {"quantized_already", "quantized already", ""},
      {"router", "routers", kAsk},
      {"output_head", "output heads", kAsk},
      {"embedding", "embeddings", kAsk},
      {"lora_factor", "LoRA factors", kAsk},
      {"odd_k", "k not a multiple of 8", "no kernel reads such rows"},
      {"too_large", "too large", "kernels are made for n and k of up to 16777216"},
      {"many_dimensions", "more than 2 dimensions",
       "only matrices [n, k] and stacks of experts [experts, n, k] can be quantized"},
      {"other_type", "not of a floating type", "F64, F32, F16 and BF16 can be quantized"},
      {"too_small", "too small to gain", kAsk},
      {"other_name", "not named *.weight", kAsk},
      {"vector", "norms, biases, vectors", ""},
      {"skipped", "left out by --skip", ""},
      {"not_selected", "not named by --layers", ""},
  }};
  return kTexts.at(static_cast<std::size_t>(reason));
}

Result<Decisions> plan_tensors(const Tensors& tensors, const PlanOptions& options) {
  Decisions decisions = describe_tensors(tensors);
  if (options.layers) {
    if (auto found = check_found("layers", *options.layers, decisions); !found)
      return std::unexpected(found.error());
    decide_by_pattern(decisions, *options.layers);
  } else {
    decide_by_default(decisions, options.rules);
  }
  if (auto left = check_something_left(decisions, options); !left) return std::unexpected(left.error());
  if (options.skip) {
    if (auto found = check_found("skip", *options.skip, decisions); !found)
      return std::unexpected(found.error());
    for (TensorDecision& decision : decisions) {
      if (!decision.left_alone && options.skip->found_in(decision.name))
        decision.left_alone = LeftAlone::skipped;
    }
    if (auto left = check_something_left(decisions, options); !left) return std::unexpected(left.error());
  }
  if (auto set = set_layers(decisions, options); !set) return std::unexpected(set.error());
  return decisions;
}

}  // namespace lutsmith::cli
