#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"

namespace lutsmith::cli {

/// Sizes of a decoder model, as its public configuration states them.
struct Model {
  std::string name;
  int layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_size = 0;
  std::int64_t intermediate = 0;  ///< of one expert where there are experts
  int experts = 0;                ///< 0: a dense model
  int experts_per_token = 0;
};

/// One linear layer of one GPU's share of a model.
struct LayerShape {
  std::string name;    ///< "qkv", "o", "gate_up", "down"; experts: "w13", "w2"
  std::int64_t n = 0;  ///< output channels
  std::int64_t k = 0;  ///< input channels
  int count = 1;       ///< how often the shape occurs along the model's depth
  int experts = 0;     ///< matrices of that shape per occurrence; 0: one
};

/// Every known model (models.json).
const std::vector<Model>& models();

/// The error lists the known names.
Result<Model> find_model(std::string_view name);

/// The layers of one of `tp` GPUs under tensor parallelism: qkv and gate_up are cut along N, o and
/// down along K. Where there are more GPUs than key-value heads, each GPU keeps a whole head.
/// Error where heads or intermediate size cannot be cut evenly.
Result<std::vector<LayerShape>> layer_shapes(const Model& model, int tp);

}  // namespace lutsmith::cli
