#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "lutsmith/cache.h"
#include "lutsmith/error.h"

namespace lutsmith::cache {

struct PruneOptions {
  CacheLimits limits;
  /// What is left where a limit was exceeded: a little less than `limits`, or every put would exceed them
  /// again. Nothing: `limits`.
  std::optional<CacheLimits> down_to = {};
  /// A temporary file that has not been written to for so long has lost its writer.
  std::chrono::seconds temporary_age = std::chrono::hours(1);
  /// Damaged entries are kept for whoever wants to know what happened, but not for ever.
  std::chrono::seconds damaged_age = std::chrono::hours(24 * 7);
};

/// What was removed, and what is left.
struct Pruned {
  std::uint64_t entries = 0;    ///< removed to keep the limits
  std::uint64_t bytes = 0;      ///< of them
  std::uint64_t temporary = 0;  ///< files left by writers that died
  std::uint64_t damaged = 0;    ///< entries that had been put aside
  std::uint64_t entries_left = 0;
  std::uint64_t bytes_left = 0;  ///< of entries
};

/// Removes the entries used longest ago until both limits hold, and files whose time is over. Touches nothing
/// but files whose names say that the cache wrote them. A file that vanishes meanwhile is no error; neither
/// is another process that prunes at the same time. Errors: those of opening the directory.
Result<Pruned> prune_directory(const std::filesystem::path& root, const PruneOptions& options);

}  // namespace lutsmith::cache
