#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "lutsmith/safetensors.h"

namespace lutsmith {

/// One file of a checkpoint.
struct Shard {
  std::string name;  ///< of the file, without its folder
  SafetensorsFile file;
};

/// A tensor and the shard that holds it.
struct CheckpointTensor {
  std::size_t shard = 0;
  TensorInfo info;
};

/// A checkpoint of one or many safetensors files. Only their headers are in memory.
class Checkpoint {
 public:
  /// `path` is a safetensors file, an index (*.json) that names the file of each tensor, or a folder: of an
  /// index
  /// (*.safetensors.index.json), else all its *.safetensors are taken. Errors: not_found where there is no
  /// such file or none in the folder, invalid_argument where a folder leaves open what is meant, corrupt_data
  /// where index and shards contradict each other or a tensor is in two shards.
  static Result<Checkpoint> open(const std::filesystem::path& path);

  /// Sorted by name; never empty.
  const std::vector<Shard>& shards() const { return shards_; }
  /// Of all shards.
  const std::map<std::string, CheckpointTensor>& tensors() const { return tensors_; }
  /// The index it was opened by; empty without one.
  const std::filesystem::path& index() const { return index_; }
  /// The object "metadata" of the index, as JSON; "{}" without one.
  const std::string& index_metadata() const { return index_metadata_; }

 private:
  Result<void> add_shard(const std::filesystem::path& folder, const std::string& name);
  static Result<Checkpoint> open_files(const std::filesystem::path& folder,
                                       std::span<const std::string> names);
  static Result<Checkpoint> open_index(const std::filesystem::path& path);
  static Result<Checkpoint> open_folder(const std::filesystem::path& folder);

  std::vector<Shard> shards_;
  std::map<std::string, CheckpointTensor> tensors_;
  std::filesystem::path index_;
  std::string index_metadata_ = "{}";
};

}  // namespace lutsmith
