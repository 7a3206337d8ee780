#include "cache/stores/disk_store.h"

#include "cache/stores/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "cache/stores/disk_pruning.h"
#include "cache/stores/key_lock.h"
#include "core/result.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;

// Entries are put in order by when they were last used; to the hour is enough, and spares a write per use.
constexpr std::chrono::hours kStampPrecision{1};

// A directory is looked over after the first put, and then when a minute has passed or a 64th of a limit has
// been put. So many processes together overshoot by what they can make in a minute at most.
constexpr std::chrono::minutes kPrunePause{1};
constexpr std::uint64_t kPruneShare = 64;
constexpr std::chrono::seconds kLastPruning{2};

/// The bytes of a file. Errors: corrupt_data where it is not a regular file or too long for an entry.
Result<std::vector<std::byte>> read_file(const core::Descriptor& file, const fs::path& path,
                                         struct stat& status) {
  if (fstat(file.number(), &status) != 0) return std::unexpected(core::system_error(errno, "inspect", path));
  if (!S_ISREG(status.st_mode)) return corrupt("it is not a regular file");
  if (!is_trusted(status)) {
    return std::unexpected(
        Error{ErrorCode::corrupt_data,
              fmt::format("it belongs to user {}, or others may write to it", status.st_uid), ""});
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > kMaxEntryBytes) {
    return std::unexpected(
        Error{ErrorCode::corrupt_data, fmt::format("{} bytes are more than an entry has", size), ""});
  }
  std::vector<std::byte> bytes(size);
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count = ::read(file.number(), bytes.data() + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::unexpected(core::system_error(errno, "read", path));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

/// The bytes of an entry's file, and when it was last used.
struct FileContents {
  core::Descriptor file;
  std::vector<std::byte> bytes;
  struct stat status{};
};

/// Errors: not_found where there is no file, corrupt_data where it can be no entry.
Result<FileContents> read_entry_file(const core::Descriptor& shard, const std::string& name,
                                     const fs::path& path) {
  FileContents contents;
  // O_NONBLOCK: opening a pipe that somebody left here must not wait for a writer.
  contents.file =
      core::Descriptor(openat(shard.number(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!contents.file.valid()) {
    const int reason = errno;
    if (reason == ENOENT || reason == ESTALE) return std::unexpected(Error{ErrorCode::not_found, "", ""});
    if (reason == ELOOP) {
      return corrupt("it is a symbolic link");
    }
    return std::unexpected(core::system_error(reason, "open", path));
  }
  Result<std::vector<std::byte>> bytes = read_file(contents.file, path, contents.status);
  if (!bytes) return std::unexpected(std::move(bytes.error()));
  contents.bytes = *std::move(bytes);
  return contents;
}

/// Stamps the file as used now, unless that was done within the hour. The system's own access times are off
/// or coarse on many machines. Where the file may not be changed its order among the others is lost, no more.
void stamp(const FileContents& contents) {
  const auto age = std::chrono::system_clock::now() - last_used(contents.status);
  if (age > -kStampPrecision && age < kStampPrecision) return;
  const std::array<timespec, 2> times{timespec{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                                      timespec{.tv_sec = 0, .tv_nsec = UTIME_NOW}};
  static_cast<void>(futimens(contents.file.number(), times.data()));
}

// Out of the way, but kept for whoever wants to know what happened.
void put_aside(const core::Descriptor& shard, const std::string& name) {
  const std::string aside = damaged_name(name);
  if (renameat(shard.number(), name.c_str(), shard.number(), aside.c_str()) != 0) {
    unlinkat(shard.number(), name.c_str(), 0);
    return;
  }
  // Its time is counted from now on, not from when it was last used.
  const std::array<timespec, 2> now{timespec{.tv_sec = 0, .tv_nsec = UTIME_NOW},
                                    timespec{.tv_sec = 0, .tv_nsec = UTIME_NOW}};
  static_cast<void>(utimensat(shard.number(), aside.c_str(), now.data(), AT_SYMLINK_NOFOLLOW));
}

}  // namespace

Result<std::unique_ptr<DiskStore>> DiskStore::open(const fs::path& root, const DiskOptions& options) {
  std::error_code failed;
  fs::path absolute = fs::absolute(root, failed).lexically_normal();
  // A trailing slash would make the system follow a symbolic link.
  if (absolute.filename().empty()) absolute = absolute.parent_path();
  if (root.empty() || failed) {
    return std::unexpected(Error{ErrorCode::invalid_argument, "the cache directory has no usable name", ""});
  }
  Result<core::Descriptor> directory =
      open_root(absolute, options.access == Access::read_write ? Missing::create : Missing::keep);
  if (!directory) return std::unexpected(std::move(directory.error()));
  return std::unique_ptr<DiskStore>(new DiskStore(std::move(absolute), options));
}

DiskStore::~DiskStore() { pruner_.flush(kLastPruning); }

fs::path DiskStore::path_of(const Key& key) const {
  return root_ / kLayoutFolder / shard_name(key) / entry_file_name(key);
}

/// The folder a key's entry stands in.
Result<core::Descriptor> DiskStore::open_shard(const Key& key, Missing missing) const {
  Result<core::Descriptor> layout = open_layout(root_, missing);
  if (!layout || !layout->valid()) return layout;
  const std::string shard = shard_name(key);
  return open_folder(*layout, shard.c_str(), root_ / kLayoutFolder / shard, missing);
}

Result<Lookup> DiskStore::get(const Key& key) {
  Result<core::Descriptor> shard = open_shard(key, Missing::keep);
  if (!shard) return std::unexpected(std::move(shard.error()));
  Lookup lookup;
  if (!shard->valid()) return lookup;
  const bool own = options_.access == Access::read_write;
  lookup.tier = own ? Tier::local : Tier::system;
  const std::string name = entry_file_name(key);
  const fs::path path = path_of(key);
  Result<FileContents> contents = read_entry_file(*shard, name, path);
  Result<Entry> entry = contents ? decode(contents->bytes) : std::unexpected(contents.error());
  if (entry) {
    if (own) stamp(*contents);
    bytes_read_ += contents->bytes.size();
    lookup.state = LookupState::hit;
    lookup.entry = *std::move(entry);
    return lookup;
  }
  switch (entry.error().code) {
    case ErrorCode::not_found:
      return lookup;
    case ErrorCode::unsupported:
      lookup.state = LookupState::newer;
      lookup.note = std::move(entry.error().message);
      return lookup;
    case ErrorCode::corrupt_data:
      if (own) put_aside(*shard, name);
      lookup.state = LookupState::damaged;
      lookup.note = fmt::format("the cache entry {} is damaged: {}", path.native(), entry.error().message);
      return lookup;
    default:
      return std::unexpected(std::move(entry.error()));
  }
}

Result<void> DiskStore::put(const Key& key, const Entry& entry) {
  if (options_.access == Access::read_only) {
    return std::unexpected(
        Error{ErrorCode::io_error,
              fmt::format("the cache directory {} was opened for reading only", root_.native()), ""});
  }
  Result<std::vector<std::byte>> bytes = encode(entry);
  if (!bytes) return std::unexpected(std::move(bytes.error()));
  Result<core::Descriptor> shard = open_shard(key, Missing::create);
  if (!shard) return std::unexpected(std::move(shard.error()));
  Result<AtomicFile> file = AtomicFile::create(*shard, entry_file_name(key), path_of(key));
  if (!file) return std::unexpected(std::move(file.error()));
  if (Result<void> written = file->write(*bytes); !written) return written;
  if (Result<void> published = file->commit(); !published) return published;
  bytes_written_ += bytes->size();
  prune_when_due(bytes->size());
  return {};
}

void DiskStore::prune_when_due(std::uint64_t bytes_put) {
  const std::uint64_t bytes = bytes_put_ += bytes_put;
  const std::uint64_t entries = ++entries_put_;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const std::int64_t last = last_pruned_;
  const bool due = last == 0 || now - std::chrono::steady_clock::duration(last) > kPrunePause ||
                   bytes > options_.limits.bytes / kPruneShare ||
                   entries > options_.limits.entries / kPruneShare;
  if (!due) return;
  pruner_.run([this, now] {
    last_pruned_ = now.count();
    bytes_put_ = 0;
    entries_put_ = 0;
    const auto below = [](std::uint64_t limit) { return limit - limit / 8; };
    const Result<Pruned> pruned = prune_directory(
        root_, {.limits = options_.limits,
                .down_to = CacheLimits{below(options_.limits.bytes), below(options_.limits.entries)}});
    // Whatever is wrong, the next get or put meets it too, and tells of it.
    if (pruned) entries_removed_ += pruned->entries;
  });
}

Result<bool> DiskStore::remove(const Key& key) {
  if (options_.access == Access::read_only) return false;
  Result<core::Descriptor> shard = open_shard(key, Missing::keep);
  if (!shard) return std::unexpected(std::move(shard.error()));
  if (!shard->valid()) return false;
  if (unlinkat(shard->number(), entry_file_name(key).c_str(), 0) == 0) return true;
  if (errno == ENOENT) return false;
  return std::unexpected(core::system_error(errno, "remove", path_of(key)));
}

std::unique_ptr<Claim> DiskStore::claim(const Key& key, std::chrono::milliseconds longest) {
  if (options_.access == Access::read_only) return nullptr;
  const Result<core::Descriptor> layout = open_layout(root_, Missing::create);
  return layout ? KeyLock::acquire(*layout, key, longest) : nullptr;
}

Result<void> DiskStore::scan(const std::function<bool(const StoredEntry&)>& visit) {
  const Result<core::Descriptor> layout = open_layout(root_, Missing::keep);
  if (!layout) return std::unexpected(layout.error());
  if (!layout->valid()) return {};
  for (const std::string& shard : shard_names_in(*layout)) {
    const Result<core::Descriptor> folder = open_folder(*layout, shard.c_str(), root_, Missing::keep);
    if (!folder || !folder->valid()) continue;
    for (const std::string& name : names_in(*folder)) {
      const NamedFile file = classify(shard, name);
      struct stat status{};
      if (file.kind != FileKind::entry ||
          fstatat(folder->number(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
          !S_ISREG(status.st_mode)) {
        continue;
      }
      if (!visit({.key = *file.key,
                  .bytes = static_cast<std::uint64_t>(status.st_size),
                  .last_used = last_used(status)})) {
        return {};
      }
    }
  }
  return {};
}

bool DiskStore::flush(std::chrono::milliseconds longest) { return pruner_.flush(longest); }

StoreStatistics DiskStore::statistics() const {
  return {.entries_removed = entries_removed_, .bytes_read = bytes_read_, .bytes_written = bytes_written_};
}

}  // namespace lutsmith::cache
