#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "checkpoint/checkpoint.h"
#include "lutsmith/error.h"

namespace lutsmith::cli {

/// What the index of a checkpoint of several files says.
struct ShardIndex {
  std::map<std::string, std::string> files;  ///< name of a tensor -> its file
  std::uint64_t total_bytes = 0;             ///< of all tensors
};

/// Writes an index into a folder and returns its name: that of the index of `original`, whose other metadata
/// is kept, or model.safetensors.index.json where `original` has none.
Result<std::string> write_index(const std::filesystem::path& folder, const ShardIndex& index,
                                const Checkpoint& original);

}  // namespace lutsmith::cli
