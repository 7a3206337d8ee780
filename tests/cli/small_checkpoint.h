#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lutsmith::tests {

/// A tensor of a checkpoint that a test writes.
struct SmallTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;  ///< as many as the shape has; F32
};

/// `count` numbers of both signs of about `size`, without any period that groups could share.
std::vector<float> wavy_values(std::size_t count, float size = 0.1F);

/// A safetensors file, written byte by byte without the library.
void write_checkpoint(const std::filesystem::path& path, const std::vector<SmallTensor>& tensors);

}  // namespace lutsmith::tests
