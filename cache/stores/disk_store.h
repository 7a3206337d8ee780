#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "cache/stores/background.h"
#include "cache/stores/disk_folders.h"
#include "cache/stores/store.h"
#include "lutsmith/cache.h"

namespace lutsmith::cache {

/// Whether a directory is the program's own or only looked into.
enum class Access {
  read_write,
  read_only,  ///< nothing in it is ever changed, not even to put a damaged entry aside
};

struct DiskOptions {
  Access access = Access::read_write;
  CacheLimits limits = {};  ///< kept by pruning in the background
};

/// One file per entry:
///
///   <root>/                       0700, the user's own, no symbolic link
///     v1/
///       lock                      empty and never deleted; a byte of it for each key, see key_lock.h
///       ab/                       first two digits of the key
///         ab12...ef.lutk          see entry.h; appears by rename, never changes. Its time of modification is
///                                 when it was last used, to the hour
///         ab12...ef.lutk.bad      a damaged one, put aside
///         ab12...ef.lutk.tmp.P.C  being written by process P
///
/// The root is opened and checked anew by every call: it may be deleted under a running process, which
/// then loses its entries and nothing else.
class DiskStore final : public Store {
 public:
  /// Creates the root where it is missing, unless it is only read: then it may be missing. Errors: it cannot
  /// be created; it is a symbolic link, another user's, or others may write to it.
  static Result<std::unique_ptr<DiskStore>> open(const std::filesystem::path& root,
                                                 const DiskOptions& options = {});

  /// Waits a little for pruning: else the directory would grow for ever where every process makes one entry.
  ~DiskStore() override;

  const std::filesystem::path& root() const { return root_; }
  /// Where the entry of a key stands, or would.
  std::filesystem::path path_of(const Key& key) const;

  Result<Lookup> get(const Key& key) override;
  Result<void> put(const Key& key, const Entry& entry) override;
  Result<bool> remove(const Key& key) override;
  Result<void> scan(const std::function<bool(const StoredEntry&)>& visit) override;
  bool flush(std::chrono::milliseconds longest) override;
  /// Bytes and entries removed; who asks for entries counts the hits.
  StoreStatistics statistics() const override;
  std::unique_ptr<Claim> claim(const Key& key, std::chrono::milliseconds longest) override;

 private:
  DiskStore(std::filesystem::path root, const DiskOptions& options)
      : root_(std::move(root)), options_(options) {}

  Result<core::Descriptor> open_shard(const Key& key, Missing missing) const;
  void prune_when_due(std::uint64_t bytes_put);

  std::filesystem::path root_;
  DiskOptions options_;

  // Since the directory was last pruned by this process.
  std::atomic<std::uint64_t> bytes_put_{0};
  std::atomic<std::uint64_t> entries_put_{0};
  std::atomic<std::int64_t> last_pruned_{0};  ///< ticks of the steady clock; 0: never

  std::atomic<std::uint64_t> entries_removed_{0};
  std::atomic<std::uint64_t> bytes_read_{0};
  std::atomic<std::uint64_t> bytes_written_{0};

  BackgroundWorker pruner_{/*most_waiting=*/1};  // the last member: its thread uses the others
};

}  // namespace lutsmith::cache
