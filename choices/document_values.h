#pragma once

#include <cmath>
#include <optional>

#include "choices/document.h"

// Values of a document as JSON, in documents and in reports. `Json` is nlohmann's json or ordered_json.

namespace lutsmith::choices {

/// Of microseconds and other measured values: nanoseconds are more than any clock here can tell.
inline constexpr int kTimeDecimals = 3;
/// Of parts of a whole.
inline constexpr int kPartDecimals = 4;

inline double rounded(double value, int decimals) {
  const double scale = std::pow(10, decimals);
  return std::round(value * scale) / scale;
}

template <class Json>
Json rounded_or_null(const std::optional<double>& value, int decimals = kTimeDecimals) {
  return value ? Json(rounded(*value, decimals)) : Json();
}
template <class Json, class Value>
Json value_or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json();
}

template <class Json>
Json timed_json(const Timed& timed) {
  return {{"schedule", timed.schedule},
          {"partitions", timed.partitions},
          {"microseconds", rounded(timed.microseconds, kTimeDecimals)}};
}

template <class Json>
Json conditions_json(const Conditions& conditions) {
  return {{"measured", conditions.measured},
          {"quality", to_string(conditions.quality)},
          {"driver", conditions.driver},
          {"compiler", conditions.compiler},
          {"library", conditions.library},
          {"clock_mhz", rounded_or_null<Json>(conditions.clock_mhz)},
          {"memory_clock_mhz", rounded_or_null<Json>(conditions.memory_clock_mhz)},
          {"power_watts", rounded_or_null<Json>(conditions.power_watts)},
          {"temperature_celsius", rounded_or_null<Json>(conditions.temperature_celsius)},
          {"throttled_by", conditions.throttled_by},
          {"power_capped", value_or_null<Json>(conditions.power_capped)},
          {"other_processes", value_or_null<Json>(conditions.other_processes)}};
}

}  // namespace lutsmith::choices
