#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

#include "codegen/kernel_template.h"
#include "lutsmith/schedule.h"

namespace lutsmith {

/// The template of a weight stream.
constexpr std::string_view weight_stream_module(WeightPath path) {
  switch (path) {
    case WeightPath::registers:
      return "templates/weights/registers.cuh";
    case WeightPath::async_copy:
      return "templates/weights/async_copy.cuh";
    case WeightPath::bulk_copy:
      return "templates/weights/bulk_copy.cuh";
  }
  return {};
}

/// Sets the constant of every field of a schedule, and includes the weight stream that it names, if it does,
/// in the place of that in registers.
template <class Schedule>
void set_constants(KernelTemplate& text, const Schedule& schedule) {
  visit_fields(schedule, [&text]<class Value>(const FieldInfo& field, const Value& value) {
    if constexpr (std::is_same_v<Value, WeightPath>) {
      text.replace(weight_stream_module(WeightPath::registers), weight_stream_module(value));
    } else if constexpr (std::is_same_v<Value, bool>) {
      text.set_flag(constant_name(field.name), value);
    } else {
      text.set_constant(constant_name(field.name), std::int64_t{value});
    }
  });
}

}  // namespace lutsmith
