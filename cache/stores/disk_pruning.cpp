#include "cache/stores/disk_pruning.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "cache/stores/disk_folders.h"

namespace lutsmith::cache {
namespace {

using Clock = std::chrono::system_clock;

struct Candidate {
  std::string shard;
  std::string name;
  std::uint64_t bytes = 0;
  Clock::time_point last_used;
};

/// One pass over a directory.
class Pruning {
 public:
  Pruning(const core::Descriptor& layout, const PruneOptions& options)
      : layout_(layout), options_(options), now_(Clock::now()) {}

  /// Removes what is too old, and remembers the entries.
  void sweep(const std::string& shard, const core::Descriptor& folder) {
    for (std::string& name : names_in(folder)) {
      const FileKind kind = classify(shard, name).kind;
      struct stat status{};
      if (kind == FileKind::foreign ||
          fstatat(folder.number(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
          !S_ISREG(status.st_mode)) {
        continue;
      }
      const Clock::time_point modified = last_used(status);
      if (kind == FileKind::temporary) {
        if (now_ - modified >= options_.temporary_age && remove(folder, name)) ++result_.temporary;
      } else if (kind == FileKind::damaged) {
        if (now_ - modified >= options_.damaged_age && remove(folder, name)) ++result_.damaged;
      } else {
        entries_.push_back({.shard = shard,
                            .name = std::move(name),
                            .bytes = static_cast<std::uint64_t>(status.st_size),
                            .last_used = modified});
        result_.bytes_left += entries_.back().bytes;
      }
    }
  }

  Pruned finish() {
    result_.entries_left = entries_.size();
    if (within(options_.limits)) return result_;
    const CacheLimits target = options_.down_to.value_or(options_.limits);
    std::ranges::sort(entries_, {}, &Candidate::last_used);
    for (const Candidate& entry : entries_) {
      if (within(target)) break;
      // Opened for each: 256 folders at once are more than some programs have to spare.
      const Result<core::Descriptor> folder =
          open_folder(layout_, entry.shard.c_str(), entry.shard, Missing::keep);
      if (!folder || !folder->valid() || !remove(*folder, entry.name)) continue;
      ++result_.entries;
      result_.bytes += entry.bytes;
      --result_.entries_left;
      result_.bytes_left -= entry.bytes;
    }
    return result_;
  }

 private:
  bool within(const CacheLimits& limits) const {
    return result_.entries_left <= limits.entries && result_.bytes_left <= limits.bytes;
  }
  static bool remove(const core::Descriptor& folder, const std::string& name) {
    return unlinkat(folder.number(), name.c_str(), 0) == 0;
  }

  const core::Descriptor& layout_;
  PruneOptions options_;
  Clock::time_point now_;
  std::vector<Candidate> entries_;
  Pruned result_;
};

}  // namespace

Result<Pruned> prune_directory(const std::filesystem::path& root, const PruneOptions& options) {
  const Result<core::Descriptor> layout = open_layout(root, Missing::keep);
  if (!layout) return std::unexpected(layout.error());
  if (!layout->valid()) return Pruned{};
  Pruning pruning(*layout, options);
  for (const std::string& shard : shard_names_in(*layout)) {
    const Result<core::Descriptor> folder =
        open_folder(*layout, shard.c_str(), root / kLayoutFolder / shard, Missing::keep);
    // What cannot be opened is none of the cache's: a link, a file, another user's folder.
    if (folder && folder->valid()) pruning.sweep(shard, *folder);
  }
  return pruning.finish();
}

}  // namespace lutsmith::cache
