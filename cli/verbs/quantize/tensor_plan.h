#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options/layer_rules.h"
#include "cli/options/name_pattern.h"
#include "lutsmith/safetensors.h"

namespace lutsmith::cli {

/// Why a tensor is copied as it is.
enum class LeftAlone {
  quantized_already,  ///< part of a layer in another quantized format
  router,             ///< chooses experts: small, and sensitive to errors
  output_head,        ///< makes logits or classes
  embedding,          ///< looked up, not multiplied with
  lora_factor,        ///< of an adapter that is not merged
  odd_k,              ///< no kernel: k is not a multiple of 8
  too_large,          ///< no kernel: n or k is above 2^24
  many_dimensions,    ///< a convolution and the like; experts' stacks are not among them
  other_type,         ///< integers, booleans
  too_small,          ///< packing saves nothing
  other_name,         ///< a matrix that is no layer's weight
  vector,             ///< norms, biases, scalars
  skipped,            ///< by --skip
  not_selected,       ///< by --layers
};

struct LeftAloneText {
  std::string_view code;    ///< in JSON: "router"
  std::string_view title;   ///< for people: "routers"
  std::string_view advice;  ///< what to know or do about it; empty where there is nothing
};

const LeftAloneText& text_of(LeftAlone reason);

/// What happens to one tensor of a checkpoint.
struct TensorDecision {
  std::string name;
  TensorInfo tensor;
  std::optional<LeftAlone> left_alone;  ///< nothing: it is quantized
  std::string format = {};              ///< of quantized_already: "GPTQ"
  std::string format_advice = {};       ///< what to give instead
  bool asked_for = false;               ///< --layers matches, also where it cannot be taken
  LayerSettings settings = {};          ///< of a quantized one
  std::int64_t experts = 0;             ///< matrices in a stack [experts, n, k]; 0: it is one matrix [n, k]
  std::int64_t n = 0;
  std::int64_t k = 0;
};

struct PlanOptions {
  std::optional<NamePattern> layers;  ///< select these instead of the usual ones
  std::optional<NamePattern> skip;    ///< but not these
  std::vector<LayerRule> rules;
  LayerSettings settings;
};

/// One decision for each tensor, by name.
///
/// Without `layers` every linear layer is quantized: matrices [n, k] named *.weight, of 64 x 64 or more, k a
/// multiple of 8, and stacks of experts [experts, n, k] of 32 x 32 or more; routers, output heads, embeddings
/// and LoRA factors are not. With it every matrix and stack it matches is, these included. A rule that
/// matches none but tensors that would be left alone asks for them as well. What is quantized already is
/// always left alone.
///
/// Errors: invalid_argument where nothing can be quantized, saying why, and where a pattern or a rule matches
/// nothing, or its settings go with no kernel.
Result<std::vector<TensorDecision>> plan_tensors(const std::map<std::string, TensorInfo>& tensors,
                                                 const PlanOptions& options);

}  // namespace lutsmith::cli
