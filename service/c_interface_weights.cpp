#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "core/result.h"
#include "lutsmith.h"
#include "quant/host_matrix.h"
#include "service/c_interface.h"

// The functions of lutsmith.h that work on weights in host memory.

namespace lutsmith::c_interface {
namespace {

Result<HostType> type_of(const char* name) { return name == nullptr ? HostType::f32 : parse_host_type(name); }

std::size_t count_of(std::int64_t rows, std::int64_t each) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(each);
}

struct NamedPointer {
  const void* pointer;
  const char* name;
};

/// The format, validated, so that the sizes of what belongs to it can be computed; none of that is NULL.
Result<WeightFormat> format_with(const lutsmith_spec* pointer,
                                 std::initializer_list<NamedPointer> belongings) {
  for (const NamedPointer& each : belongings) {
    if (Result<void> there = check_handle(each.pointer, each.name); !there) return failure(there);
  }
  Result<WeightFormat> format = format_of(pointer, "format");
  if (!format) return format;
  return value_after(validate(*format), *format);
}

/// What a quantization says of weights whose format is known.
struct GivenWeights {
  HostMatrix matrix;
  QuantizationOptions options;
};

Result<GivenWeights> weights_of(const lutsmith_quantization& given, const WeightFormat& format) {
  Result<HostType> type = type_of(given.weights_type);
  if (!type) return failure(type);
  GivenWeights weights{{given.weights, *type, given.weights_stride == 0 ? format.k : given.weights_stride},
                       {}};
  if (given.scales != nullptr) {
    Result<ScaleChoice> scales = parse_scale_choice(given.scales);
    if (!scales) return failure(scales);
    weights.options.scales = *scales;
  }
  if (given.importance != nullptr) {
    weights.options.importance = {given.importance, static_cast<std::size_t>(format.k)};
  }
  return weights;
}

Result<void> quantize(const lutsmith_quantization* pointer, double* weight_error) {
  Result<lutsmith_quantization> given =
      known_part(pointer, "quantization", lutsmith_quantization LUTSMITH_QUANTIZATION_INIT);
  if (!given) return failure(given);
  Result<WeightFormat> format = format_with(
      given->format, {{given->weights, "weights"}, {given->table, "table"}, {given->packed, "packed"}});
  if (!format) return failure(format);
  Result<GivenWeights> weights = weights_of(*given, *format);
  if (!weights) return failure(weights);
  Result<Table> table = given_table(format->bits, format->table,
                                    {given->table, given->table + given->table_length}, format->dtype);
  if (!table) return failure(table);
  Result<QuantizationLoss> loss = quantize_matrix(
      weights->matrix, *format, *table, {static_cast<std::byte*>(given->packed), given->packed_bytes},
      given->threads, weights->options);
  if (!loss) return failure(loss);
  if (given->stored_table != nullptr) {
    std::ranges::transform(table->values, given->stored_table,
                           [&](float value) { return to_bits(value, format->dtype); });
  }
  if (weight_error != nullptr) *weight_error = loss->relative_error();
  return {};
}

Result<void> learn(const lutsmith_quantization* pointer, float* values, std::size_t length) {
  Result<lutsmith_quantization> given =
      known_part(pointer, "quantization", lutsmith_quantization LUTSMITH_QUANTIZATION_INIT);
  if (!given) return failure(given);
  Result<WeightFormat> format = format_with(given->format, {{given->weights, "weights"}, {values, "values"}});
  if (!format) return failure(format);
  if (format->table != TableKind::scalar) {
    return refuse(fmt::format("table: {} is not allowed; allowed: scalar, as no others are learned",
                              to_string(format->table)));
  }
  const auto expected = static_cast<std::size_t>(table_length(format->bits, format->table));
  if (length != expected) {
    return refuse(
        fmt::format("length: {} is not allowed; {} bits have {} values", length, format->bits, expected));
  }
  Result<GivenWeights> weights = weights_of(*given, *format);
  if (!weights) return failure(weights);
  Result<LearnedTable> learned = learn_matrix_table(
      weights->matrix, *format, {.importance = weights->options.importance, .jobs = given->threads});
  if (!learned) return failure(learned);
  std::ranges::copy(learned->table.values, values);
  return {};
}

Result<void> dequantize(const lutsmith_dequantization* pointer) {
  Result<lutsmith_dequantization> given =
      known_part(pointer, "dequantization", lutsmith_dequantization LUTSMITH_DEQUANTIZATION_INIT);
  if (!given) return failure(given);
  Result<WeightFormat> format =
      format_with(given->format, {{given->weights, "weights"}, {given->packed, "packed"}});
  if (!format) return failure(format);
  if (!format->row_tables()) {
    if (Result<void> there = check_handle(given->table, "table"); !there) return there;
  }
  Result<HostType> type = type_of(given->weights_type);
  if (!type) return failure(type);
  // Of a row before the first, which is refused below, no number of rows is computed: it may not exist.
  const std::int64_t rest = format->n - std::max<std::int64_t>(given->first_row, 0);
  const std::int64_t rows = given->rows == 0 ? rest : given->rows;
  return dequantize_matrix(
      {static_cast<const std::byte*>(given->packed), given->packed_bytes}, *format,
      {given->table, given->table_length}, given->first_row, rows,
      {given->weights, *type, given->weights_stride == 0 ? format->k : given->weights_stride}, given->threads,
      {given->segments, given->segment_count});
}

/// What packed bytes are made of, and turned back into.
template <class Codes, class Words>
struct Parts {
  Codes* codes;
  Words* scales;
  Words* offsets;
  Words* tables;
  const void* packed;
};

template <class Element>
std::span<Element> span_of(Element* elements, std::int64_t rows, std::int64_t each) {
  return {elements, elements == nullptr ? 0 : count_of(rows, each)};
}

/// Calls use(format, codes, scales, offsets, tables), spans of the sizes that `pointer` says; offsets and
/// tables may be NULL.
template <class Codes, class Words, class Use>
Result<void> with_parts(const lutsmith_spec* pointer, const Parts<Codes, Words>& parts, const Use& use) {
  Result<WeightFormat> format =
      format_with(pointer, {{parts.codes, "codes"}, {parts.scales, "scales"}, {parts.packed, "packed"}});
  if (!format) return failure(format);
  if (format->offsets && parts.offsets == nullptr) {
    return refuse(
        "offsets: NULL is not allowed where the format has offsets; call lutsmith_pack_offsets or "
        "lutsmith_unpack_offsets with [n, groups of a row]");
  }
  if (format->row_tables() && parts.tables == nullptr) {
    return refuse(
        "tables: NULL is not allowed where each row has a table; call lutsmith_pack_tables or "
        "lutsmith_unpack_tables with [n, 2^bits]");
  }
  const std::int64_t groups = groups_per_row(format->group, format->k);
  return use(*format, span_of(parts.codes, format->n, format->k), span_of(parts.scales, format->n, groups),
             span_of(parts.offsets, format->n, groups),
             span_of(parts.tables, format->n, std::int64_t{1} << format->bits));
}

}  // namespace
}  // namespace lutsmith::c_interface

using lutsmith::Result;
namespace c_interface = lutsmith::c_interface;

lutsmith_status lutsmith_table(const char* method, int32_t bits, float* values, size_t length) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_handle(method, "method"); !there) return there;
    if (Result<void> there = c_interface::check_handle(values, "values"); !there) return there;
    Result<lutsmith::Table> table = lutsmith::table_by_method(method, bits);
    if (!table) return lutsmith::failure(table);
    if (length != table->values.size()) {
      return lutsmith::refuse(fmt::format("length: {} is not allowed; {} bits have {} values", length, bits,
                                          table->values.size()));
    }
    std::ranges::copy(table->values, values);
    return {};
  });
}

lutsmith_status lutsmith_quantize(const lutsmith_quantization* quantization, double* weight_error) {
  return c_interface::status_after([&] { return c_interface::quantize(quantization, weight_error); });
}

lutsmith_status lutsmith_learn_table(const lutsmith_quantization* quantization, float* values,
                                     size_t length) {
  return c_interface::status_after([&] { return c_interface::learn(quantization, values, length); });
}

lutsmith_status lutsmith_dequantize(const lutsmith_dequantization* dequantization) {
  return c_interface::status_after([&] { return c_interface::dequantize(dequantization); });
}

lutsmith_status lutsmith_pack(const lutsmith_spec* format, const uint8_t* codes, const uint16_t* scales,
                              void* packed, size_t packed_bytes) {
  return lutsmith_pack_offsets(format, codes, scales, nullptr, packed, packed_bytes);
}

lutsmith_status lutsmith_unpack(const lutsmith_spec* format, const void* packed, size_t packed_bytes,
                                uint8_t* codes, uint16_t* scales) {
  return lutsmith_unpack_offsets(format, packed, packed_bytes, codes, scales, nullptr);
}

lutsmith_status lutsmith_pack_offsets(const lutsmith_spec* format, const uint8_t* codes,
                                      const uint16_t* scales, const uint16_t* offsets, void* packed,
                                      size_t packed_bytes) {
  return lutsmith_pack_tables(format, codes, scales, offsets, nullptr, packed, packed_bytes);
}

lutsmith_status lutsmith_unpack_offsets(const lutsmith_spec* format, const void* packed, size_t packed_bytes,
                                        uint8_t* codes, uint16_t* scales, uint16_t* offsets) {
  return lutsmith_unpack_tables(format, packed, packed_bytes, codes, scales, offsets, nullptr);
}

lutsmith_status lutsmith_pack_tables(const lutsmith_spec* format, const uint8_t* codes,
                                     const uint16_t* scales, const uint16_t* offsets, const uint16_t* tables,
                                     void* packed, size_t packed_bytes) {
  return c_interface::status_after([&] {
    return c_interface::with_parts(format, c_interface::Parts{codes, scales, offsets, tables, packed},
                                   [&](const lutsmith::WeightFormat& known, auto... parts) {
                                     return lutsmith::pack_matrix(
                                         parts..., known, {static_cast<std::byte*>(packed), packed_bytes}, 0);
                                   });
  });
}

lutsmith_status lutsmith_unpack_tables(const lutsmith_spec* format, const void* packed, size_t packed_bytes,
                                       uint8_t* codes, uint16_t* scales, uint16_t* offsets,
                                       uint16_t* tables) {
  return c_interface::status_after([&] {
    return c_interface::with_parts(format, c_interface::Parts{codes, scales, offsets, tables, packed},
                                   [&](const lutsmith::WeightFormat& known, auto... parts) {
                                     return lutsmith::unpack_matrix(
                                         {static_cast<const std::byte*>(packed), packed_bytes}, known,
                                         parts..., 0);
                                   });
  });
}
