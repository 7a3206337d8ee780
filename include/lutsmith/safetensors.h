#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lutsmith/error.h"
#include "lutsmith/export.h"

namespace lutsmith {

/// One tensor of a safetensors file. `bytes` points into the mapped file and lives as long as it.
struct TensorView {
  std::string dtype;  ///< as in the header: "F32", "F16", "BF16", "U8", ...
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// A safetensors file, memory-mapped and validated: the header is bounded, every tensor's bytes lie
/// within the file, match dtype x shape and overlap no other's.
class LUTSMITH_API SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  const std::map<std::string, TensorView>& tensors() const;
  const std::map<std::string, std::string>& metadata() const;

 private:
  struct Contents;
  explicit SafetensorsFile(std::shared_ptr<const Contents> contents);
  std::shared_ptr<const Contents> contents_;
};

/// The values of an F32, F16 or BF16 tensor as floats.
LUTSMITH_API Result<std::vector<float>> to_floats(const TensorView& tensor);

/// One tensor to be written.
struct TensorToWrite {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Writes a file whole or not at all: to a temporary file beside it, then renamed.
LUTSMITH_API Result<void> write_safetensors(const std::filesystem::path& path,
                                            std::span<const TensorToWrite> tensors,
                                            const std::map<std::string, std::string>& metadata);

}  // namespace lutsmith
