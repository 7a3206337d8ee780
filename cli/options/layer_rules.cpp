#include "cli/options/layer_rules.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "cli/output/printable.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

constexpr const char* kForm = "write REGEX=KEY:VALUE,... with the keys bits, group, method, dtype and scales";

std::unexpected<Error> refuse(const std::string& rule, std::string_view why) {
  return std::unexpected(
      Error{ErrorCode::invalid_argument, fmt::format("rule: '{}': {}", printable(rule, 120), why), {}});
}

Result<void> set(LayerRule& rule, std::string_view key, std::string_view value) {
  const auto twice = [&] { return refuse(rule.text, fmt::format("{} is set twice", key)); };
  if (key == "bits") {
    int bits = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), bits);
    if (error != std::errc() || end != value.data() + value.size()) {
      return refuse(rule.text, fmt::format("bits: '{}' is not allowed; allowed: 1 to 8", printable(value)));
    }
    if (rule.bits) return twice();
    rule.bits = bits;
  } else if (key == "group") {
    const auto group = parse_group(value);
    if (!group) return refuse(rule.text, group.error().message);
    if (rule.group) return twice();
    rule.group = *group;
  } else if (key == "dtype") {
    const auto dtype = parse_data_type(value);
    if (!dtype) return refuse(rule.text, dtype.error().message);
    if (rule.dtype) return twice();
    rule.dtype = *dtype;
  } else if (key == "scales") {
    const auto scales = parse_scale_choice(value);
    if (!scales) return refuse(rule.text, scales.error().message);
    if (rule.scales) return twice();
    rule.scales = *scales;
  } else if (key == "method") {
    if (rule.method) return twice();
    rule.method = std::string(value);
  } else {
    return refuse(rule.text, fmt::format("'{}' is no key; {}", printable(key), kForm));
  }
  return {};
}

}  // namespace

Result<Table> table_for(const LayerSettings& settings) {
  // Any shape that is allowed will do to ask.
  const WeightFormat format{
      .bits = settings.bits, .group = settings.group, .n = 64, .k = 64, .dtype = settings.dtype};
  if (const auto valid = validate(format); !valid) return std::unexpected(valid.error());
  if (!settings.learns_table()) return table_by_method(settings.method, settings.bits);
  if (settings.scale_choice() != ScaleChoice::mse) {
    return lutsmith::refuse(fmt::format("scales: {} is not allowed with method kmeans; allowed: mse",
                                        to_string(settings.scale_choice())));
  }
  return lloyd_max_table(settings.bits);
}

Result<LayerRule> parse_layer_rule(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos) return refuse(text, fmt::format("there is no '='; {}", kForm));
  if (equals == 0) return refuse(text, fmt::format("the expression is empty; {}", kForm));
  auto pattern = NamePattern::parse("rule", text.substr(0, equals));
  if (!pattern) return std::unexpected(pattern.error());
  LayerRule rule{text, *std::move(pattern), {}, {}, {}, {}, {}};
  std::string_view settings = std::string_view(text).substr(equals + 1);
  if (settings.empty()) return refuse(text, fmt::format("it sets nothing; {}", kForm));
  while (!settings.empty()) {
    const std::string_view setting = settings.substr(0, settings.find(','));
    settings.remove_prefix(std::min(setting.size() + 1, settings.size()));
    const std::size_t colon = setting.find(':');
    if (colon == std::string_view::npos) {
      return refuse(text, fmt::format("'{}' has no ':'; {}", printable(setting), kForm));
    }
    const auto done = set(rule, setting.substr(0, colon), setting.substr(colon + 1));
    if (!done) return std::unexpected(done.error());
  }
  return rule;
}

LayerSettings settings_for(std::string_view name, LayerSettings settings, std::span<const LayerRule> rules) {
  for (const LayerRule& rule : rules) {
    if (!rule.pattern.found_in(name)) continue;
    settings.method = rule.method.value_or(settings.method);
    settings.bits = rule.bits.value_or(settings.bits);
    settings.group = rule.group.value_or(settings.group);
    settings.dtype = rule.dtype.value_or(settings.dtype);
    if (rule.scales) settings.scales = rule.scales;
  }
  return settings;
}

}  // namespace lutsmith::cli
