#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options/name_pattern.h"
#include "lutsmith/quantization.h"

namespace lutsmith::cli {

/// How a layer is quantized.
struct LayerSettings {
  std::string method = "nf";
  int bits = 4;
  int group = 64;  ///< or kPerChannel
  DataType dtype = DataType::f16;

  friend bool operator==(const LayerSettings&, const LayerSettings&) = default;
};

/// Whether there are a table and kernels for such a layer: invalid_argument, naming the field, where not.
Result<Table> table_for(const LayerSettings& settings);

/// Settings for the layers whose name matches; what is not set stays as it was.
struct LayerRule {
  std::string text;  ///< as given
  NamePattern pattern;
  std::optional<std::string> method;
  std::optional<int> bits;
  std::optional<int> group;
  std::optional<DataType> dtype;
};

/// "REGEX=KEY:VALUE,..." with the keys bits, group, method and dtype; the last '=' ends the expression, so
/// that an expression may hold others. Errors: invalid_argument.
Result<LayerRule> parse_layer_rule(const std::string& text);

/// All rules that match the name, one after the other: where two set the same key, the later one counts.
LayerSettings settings_for(std::string_view name, LayerSettings settings, std::span<const LayerRule> rules);

}  // namespace lutsmith::cli
