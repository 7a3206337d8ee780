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
  std::optional<ScaleChoice> scales = {};  ///< none: what is usual with the method

  [[nodiscard]] ScaleChoice scale_choice() const { return scales.value_or(usual_scale_choice(method)); }
  /// Whether each matrix has a table of its own, which is learned from its weights.
  [[nodiscard]] bool learns_table() const { return method == "kmeans"; }

  friend bool operator==(const LayerSettings&, const LayerSettings&) = default;
};

/// The table of such a layer; where it is learned, one of the same format. invalid_argument, naming the
/// field, where there can be none.
Result<Table> table_for(const LayerSettings& settings);

/// Settings for the layers whose name matches; what is not set stays as it was.
struct LayerRule {
  std::string text;  ///< as given
  NamePattern pattern;
  std::optional<std::string> method;
  std::optional<int> bits;
  std::optional<int> group;
  std::optional<DataType> dtype;
  std::optional<ScaleChoice> scales;
};

/// "REGEX=KEY:VALUE,..." with the keys bits, group, method, dtype and scales; the last '=' ends the
/// expression, so that an expression may hold others. Errors: invalid_argument.
Result<LayerRule> parse_layer_rule(const std::string& text);

/// All rules that match the name, one after the other: where two set the same key, the later one counts.
LayerSettings settings_for(std::string_view name, LayerSettings settings, std::span<const LayerRule> rules);

}  // namespace lutsmith::cli
