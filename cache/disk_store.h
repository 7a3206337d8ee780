#pragma once

#include <filesystem>
#include <memory>

#include "cache/files.h"
#include "cache/store.h"

namespace lutsmith::cache {

/// One file per entry:
///
///   <root>/                       0700, the user's own, no symbolic link
///     v1/
///       lock                      empty and never deleted; a byte of it for each key, see key_lock.h
///       ab/                       first two digits of the key
///         ab12...ef.lutk          see entry.h; appears by rename, never changes
///         ab12...ef.lutk.bad      a damaged one, put aside
///         ab12...ef.lutk.tmp.P.C  being written by process P
///
/// The root is opened and checked anew by every call: it may be deleted under a running process, which
/// then loses its entries and nothing else.
class DiskStore final : public Store {
 public:
  /// Creates the root where it is missing. Errors: it cannot be created; it is a symbolic link, another
  /// user's, or others may write to it.
  static Result<std::unique_ptr<DiskStore>> open(const std::filesystem::path& root);

  const std::filesystem::path& root() const { return root_; }

  Result<Lookup> get(const Key& key) override;
  Result<void> put(const Key& key, const Entry& entry) override;
  Result<bool> remove(const Key& key) override;
  Result<void> scan(const std::function<bool(const StoredEntry&)>& visit) override;
  std::unique_ptr<Claim> claim(const Key& key, std::chrono::milliseconds longest) override;

 private:
  explicit DiskStore(std::filesystem::path root) : root_(std::move(root)) {}

  std::filesystem::path path_of(const Key& key) const;
  std::filesystem::path root_;
};

}  // namespace lutsmith::cache
