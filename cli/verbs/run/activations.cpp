#include "cli/verbs/run/activations.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "checkpoint/packed_file.h"
#include "core/result.h"
#include "lutsmith/quantization.h"

namespace lutsmith::cli {
namespace {

bool is_matrix(const TensorInfo& tensor) {
  return tensor.shape.size() == 2 && tensor.shape[0] > 0 && tensor.shape[1] > 0 &&
         floating_bytes(tensor.dtype) > 0;
}

bool contains(std::span<const std::int64_t> widths, std::int64_t width) {
  return std::ranges::find(widths, width) != widths.end();
}

Result<Checkpoint> open_choice(const std::string& choice, std::size_t colon) {
  if (colon == std::string::npos || colon + 1 == choice.size()) {
    return refuse(fmt::format("'{}' is not FILE.safetensors:TENSOR", choice));
  }
  return Checkpoint::open(choice.substr(0, colon));
}

/// Where the i-th of m tokens is taken from: spread over the matrix, since neighbouring rows of an embedding
/// table are often unused words.
std::int64_t spread_row(std::int64_t i, std::int64_t m, std::int64_t rows) {
  return (2 * i + 1) * rows / (2 * m);
}

std::optional<double> not_finite(std::span<const std::uint16_t> row, DataType dtype) {
  for (const std::uint16_t bits : row) {
    const double value = from_bits(bits, dtype);
    if (!std::isfinite(value)) return value;
  }
  return std::nullopt;
}

bool all_zero(std::span<const std::uint16_t> row) {
  return std::ranges::all_of(row, [](std::uint16_t bits) { return (bits & 0x7fffU) == 0; });
}

}  // namespace

Activations gaussian_activations(std::int64_t m, std::int64_t k, DataType dtype, std::string note) {
  Activations result{"gaussian", std::move(note), {}};
  std::mt19937_64 engine(0x1075);
  std::normal_distribution<float> normal;
  result.values.resize(static_cast<std::size_t>(m * k));
  for (std::uint16_t& value : result.values) value = to_bits(normal(engine), dtype);
  return result;
}

Result<ActivationSource> ActivationSource::open(const Checkpoint& checkpoint, const std::string& choice,
                                                std::int64_t m, std::span<const std::int64_t> widths) {
  ActivationSource source(m);
  if (choice.empty()) {
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      if (!name.contains("embed") || !is_matrix(tensor.info) || !contains(widths, tensor.info.shape[1]))
        continue;
      // The table of words is the longest; others hold positions or kinds of tokens.
      if (source.matrix_ && tensor.info.shape[0] <= source.matrix_->tensor.shape[0]) continue;
      source.matrix_.emplace(name, tensor.info, checkpoint.shards()[tensor.shard].file);
    }
    return source;
  }
  const std::size_t colon = choice.rfind(':');
  const auto other = open_choice(choice, colon);
  if (!other) return std::unexpected(other.error());
  const std::string name = choice.substr(colon + 1);
  const auto tensor = other->tensors().find(name);
  if (tensor == other->tensors().end() || !is_matrix(tensor->second.info)) {
    return refuse(
        fmt::format("'{}' has no matrix of type F32, F16 or BF16 named '{}'", choice.substr(0, colon), name));
  }
  const TensorInfo& info = tensor->second.info;
  if (!contains(widths, info.shape[1])) {
    return refuse(fmt::format("'{}' is {} wide; no layer is, they are {} wide", name, info.shape[1],
                              fmt::join(std::set<std::int64_t>(widths.begin(), widths.end()), ", ")));
  }
  source.asked_ = true;
  source.matrix_.emplace(name, info, other->shards()[tensor->second.shard].file);
  return source;
}

Result<ActivationSource::Row> ActivationSource::row(std::int64_t index, DataType dtype) const {
  const TensorInfo& tensor = matrix_->tensor;
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.shape[1] * floating_bytes(tensor.dtype)));
  const auto read =
      matrix_->file.read(matrix_->name, static_cast<std::uint64_t>(index) * bytes.size(), bytes);
  if (!read) return std::unexpected(read.error());
  const auto values = to_floats(tensor.dtype, bytes);
  if (!values) return std::unexpected(values.error());
  Row result;
  result.reserve(values->size());
  for (const float value : *values) result.push_back(to_bits(value, dtype));
  return result;
}

Result<std::vector<std::int64_t>> ActivationSource::choose_rows(DataType dtype) const {
  const std::int64_t count = matrix_->tensor.shape[0];
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < m_; ++i) {
    std::int64_t chosen = spread_row(i, m_, count);
    for (std::int64_t tried = 0; !asked_; chosen = (chosen + 1) % count, ++tried) {
      if (tried == count) return std::vector<std::int64_t>{};
      const auto values = row(chosen, dtype);
      if (!values) return std::unexpected(values.error());
      if (!not_finite(*values, dtype) && !all_zero(*values)) break;
    }
    rows.push_back(chosen);
  }
  if (asked_) {
    if (const auto usable = check_rows(rows, dtype); !usable) return std::unexpected(usable.error());
  }
  return rows;
}

Result<void> ActivationSource::check_rows(std::span<const std::int64_t> rows, DataType dtype) const {
  bool any = false;
  for (const std::int64_t index : rows) {
    const auto values = row(index, dtype);
    if (!values) return std::unexpected(values.error());
    if (const auto value = not_finite(*values, dtype)) {
      return refuse(
          fmt::format("row {} of '{}' holds a value that is {} in {}; name a tensor of finite numbers", index,
                      matrix_->name, *value, to_string(dtype)));
    }
    any = any || !all_zero(*values);
  }
  if (any) return {};
  return refuse(fmt::format("the rows of '{}' are all zero in {}, which tests nothing; name another tensor",
                            matrix_->name, to_string(dtype)));
}

Result<Activations> ActivationSource::make(std::int64_t k, DataType dtype) {
  if (!matrix_) return gaussian_activations(m_, k, dtype, {});
  const std::int64_t width = matrix_->tensor.shape[1];
  if (width != k) {
    return gaussian_activations(m_, k, dtype,
                                fmt::format("'{}' is {} wide, not {}", matrix_->name, width, k));
  }
  auto rows = rows_.find(dtype);
  if (rows == rows_.end()) {
    auto chosen = choose_rows(dtype);
    if (!chosen) return std::unexpected(chosen.error());
    rows = rows_.emplace(dtype, *std::move(chosen)).first;
  }
  if (rows->second.empty()) {
    return gaussian_activations(m_, k, dtype,
                                fmt::format("no row of '{}' is finite and other than zero", matrix_->name));
  }
  Activations result{matrix_->name, {}, {}};
  result.values.reserve(static_cast<std::size_t>(m_ * k));
  for (const std::int64_t index : rows->second) {
    const auto values = row(index, dtype);
    if (!values) return std::unexpected(values.error());
    result.values.insert(result.values.end(), values->begin(), values->end());
  }
  return result;
}

}  // namespace lutsmith::cli
