#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lutsmith/quantization.h"

// Whole matrices in the caller's memory, quantized, packed and unpacked by many threads, a slab of rows at a
// time: besides input and output they take a few megabytes for each thread.

namespace lutsmith {

/// Types of numbers in host memory.
enum class HostType { f32, f16, bf16 };
/// "f32", "f16", "bf16".
Result<HostType> parse_host_type(std::string_view name);

/// A matrix to be read: rows of neighbouring numbers, `stride` numbers from one row to the next.
struct HostMatrix {
  const void* data = nullptr;
  HostType type = HostType::f32;
  std::int64_t stride = 0;
};

/// The same, to be written.
struct WritableHostMatrix {
  void* data = nullptr;
  HostType type = HostType::f32;
  std::int64_t stride = 0;
};

/// Quantizes and packs `weights` [format.n, format.k] into `packed`, packed_bytes(format) long: the bytes
/// that `quantize` and `pack` make of it. `table` is of the format's bits and kind. On up to `jobs` threads,
/// 0 being one for each core. The errors of `quantize`; `packed` then holds anything.
Result<QuantizationLoss> quantize_matrix(const HostMatrix& weights, const WeightFormat& format,
                                         const Table& table, std::span<std::byte> packed, unsigned jobs,
                                         const QuantizationOptions& options = {});

/// The table that `learn_table` finds for the learning_rows of `weights` [format.n, format.k].
Result<LearnedTable> learn_matrix_table(const HostMatrix& weights, const WeightFormat& format,
                                        const LearningOptions& options);

/// scale * table[code] (+ offset), rounded once to the type of `weights`, of `rows` rows from `first_row` on,
/// which is a multiple of 32. `table` has the values as they are stored, in format.dtype, of `segments` as
/// QuantizedMatrix has them, and is empty where rows have tables of their own; a weight beyond the range of
/// the type is an infinity. Refuses sizes and rows that are not the format's.
Result<void> dequantize_matrix(std::span<const std::byte> packed, const WeightFormat& format,
                               std::span<const std::uint16_t> table, std::int64_t first_row,
                               std::int64_t rows, const WritableHostMatrix& weights, unsigned jobs,
                               std::span<const std::int64_t> segments = {});

/// Packs codes [n, k], scales [n, groups of a row], as many offsets (none unless format.offsets) and tables
/// [n, 2^bits] (none unless rows have their own), in format.dtype, into `packed`. The errors of `pack`;
/// `packed` then holds anything.
Result<void> pack_matrix(std::span<const std::uint8_t> codes, std::span<const std::uint16_t> scales,
                         std::span<const std::uint16_t> offsets, std::span<const std::uint16_t> tables,
                         const WeightFormat& format, std::span<std::byte> packed, unsigned jobs);

/// The inverse, exact. The errors of `unpack`.
Result<void> unpack_matrix(std::span<const std::byte> packed, const WeightFormat& format,
                           std::span<std::uint8_t> codes, std::span<std::uint16_t> scales,
                           std::span<std::uint16_t> offsets, std::span<std::uint16_t> tables, unsigned jobs);

}  // namespace lutsmith
