#include "activations.h"

#include <fmt/format.h>

#include <random>

#include "lutsmith/quantization.h"
#include "packed_file.h"

namespace lutsmith::tools {
namespace {

bool is_matrix(const TensorInfo& tensor) {
  return tensor.shape.size() == 2 && tensor.shape[0] > 0 && tensor.shape[1] > 0 &&
         floating_bytes(tensor.dtype) > 0;
}

Result<SafetensorsFile> open_choice(const std::string& choice, std::size_t colon) {
  if (colon == std::string::npos || colon + 1 == choice.size()) {
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("activations: '{}' is not FILE.safetensors:TENSOR", choice),
                                 {}});
  }
  return SafetensorsFile::open(choice.substr(0, colon));
}

// Row `row` of a matrix as floats.
Result<std::vector<float>> matrix_row(const SafetensorsFile& file, const std::string& name,
                                      const TensorInfo& tensor, std::int64_t row) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.shape[1] * floating_bytes(tensor.dtype)));
  if (const auto read = file.read(name, static_cast<std::uint64_t>(row) * bytes.size(), bytes); !read) {
    return std::unexpected(read.error());
  }
  return to_floats(tensor.dtype, bytes);
}

std::vector<float> gaussian(std::int64_t count) {
  std::mt19937_64 engine(0x1075);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(engine);
  return values;
}

}  // namespace

Result<ActivationSource> ActivationSource::open(const Checkpoint& checkpoint, const std::string& choice) {
  ActivationSource source;
  if (choice.empty()) {
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      if (!name.contains("embed") || !is_matrix(tensor.info)) continue;
      // The table of words is the longest; others hold positions or kinds of tokens.
      if (!source.matrix_ || tensor.info.shape[0] > source.matrix_->tensor.shape[0]) {
        source.matrix_.emplace(name, tensor.info, checkpoint.shards()[tensor.shard].file);
      }
    }
    return source;
  }
  const std::size_t colon = choice.rfind(':');
  const auto other = open_choice(choice, colon);
  if (!other) return std::unexpected(other.error());
  const std::string name = choice.substr(colon + 1);
  const auto tensor = other->tensors().find(name);
  if (tensor == other->tensors().end() || !is_matrix(tensor->second)) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("activations: '{}' has no matrix of type F32, F16 or BF16 named '{}'",
                          choice.substr(0, colon), name),
              {}});
  }
  source.matrix_.emplace(name, tensor->second, *other);
  return source;
}

Result<Activations> ActivationSource::make(std::int64_t m, std::int64_t k, DataType dtype) const {
  Activations result{"gaussian", {}};
  std::vector<float> values;
  if (matrix_ && matrix_->tensor.shape[1] == k) {
    result.source = matrix_->name;
    for (std::int64_t i = 0; i < m; ++i) {
      // Spread over the matrix: neighbouring rows of an embedding table are often unused words.
      const auto row = matrix_row(matrix_->file, matrix_->name, matrix_->tensor,
                                  (2 * i + 1) * matrix_->tensor.shape[0] / (2 * m));
      if (!row) return std::unexpected(row.error());
      values.insert(values.end(), row->begin(), row->end());
    }
  } else {
    values = gaussian(m * k);
  }
  result.values.reserve(values.size());
  for (const float value : values) result.values.push_back(to_bits(value, dtype));
  return result;
}

}  // namespace lutsmith::tools
