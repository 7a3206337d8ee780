#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"
#include "lutsmith/export.h"

namespace lutsmith {

/// One tensor of a safetensors file.
struct TensorInfo {
  std::string dtype;  ///< as in the header: "F32", "F16", "BF16", "U8", ...
  std::vector<std::int64_t> shape;
  std::uint64_t bytes = 0;  ///< what dtype and shape take
};

/// A safetensors file whose header was read and validated: it is bounded, every tensor's bytes lie within the
/// file, match dtype x shape and overlap no other's. The tensors themselves are read when they are asked for.
/// Copies share the open file; all of it may be used by many threads at a time.
class LUTSMITH_API SafetensorsFile {
 public:
  /// A file of another format is corrupt_data, and the message says what it is and what to do with it.
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const;
  const std::map<std::string, TensorInfo>& tensors() const;
  const std::map<std::string, std::string>& metadata() const;

  /// All bytes of a tensor. Errors: invalid_argument where there is no such tensor, corrupt_data where the
  /// file got shorter since it was opened, io_error, out_of_memory.
  Result<std::vector<std::byte>> read(const std::string& name) const;
  /// The tensor's bytes from `first_byte` on, as many as `into` holds.
  Result<void> read(const std::string& name, std::uint64_t first_byte, std::span<std::byte> into) const;

 private:
  struct Contents;
  explicit SafetensorsFile(std::shared_ptr<const Contents> contents);
  std::shared_ptr<const Contents> contents_;
};

/// The values of F64, F32, F16 or BF16 bytes as the nearest floats; the bytes may stand at any address.
LUTSMITH_API Result<std::vector<float>> to_floats(std::string_view dtype, std::span<const std::byte> bytes);

/// One tensor of a file to be written.
struct TensorToWrite {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
};

/// A safetensors file that is written piece by piece, in any order and from any thread, and appears whole
/// under its name or not at all. The same tensors and metadata give the same file whatever the order.
class LUTSMITH_API SafetensorsWriter {
 public:
  /// Takes the space for all tensors, so that a full disk shows here where the file system can tell.
  /// `metadata_bytes` is the most that `commit` will need for its metadata; see below.
  static Result<SafetensorsWriter> create(const std::filesystem::path& path,
                                          std::span<const TensorToWrite> tensors, std::size_t metadata_bytes);
  /// What metadata takes of a header.
  static std::size_t metadata_bytes(const std::map<std::string, std::string>& metadata);

  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&& other) noexcept;
  ~SafetensorsWriter();

  /// Bytes of a tensor from `first_byte` on. Each byte is written once: what was written before, or is being
  /// written, is refused. After an error none of these bytes counts as written, and they can be given again.
  Result<void> write(const std::string& name, std::uint64_t first_byte, std::span<const std::byte> bytes);
  /// Refused unless every byte of every tensor was written, by calls that have returned. Nothing can be
  /// written after it.
  Result<void> commit(const std::map<std::string, std::string>& metadata);

 private:
  struct State;
  explicit SafetensorsWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// A tensor with its bytes at hand.
struct TensorWithBytes {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// All of a file at once.
LUTSMITH_API Result<void> write_safetensors(const std::filesystem::path& path,
                                            std::span<const TensorWithBytes> tensors,
                                            const std::map<std::string, std::string>& metadata);

}  // namespace lutsmith
