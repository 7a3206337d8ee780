#include "cache/disk_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>

#include "cache/key_lock.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLayoutFolder = "v1";
constexpr std::string_view kExtension = ".lutk";
constexpr mode_t kPrivate = 0700;
constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;

/// Whether a missing directory is to be made.
enum class Missing { keep, create };

std::string file_name(const Key& key) { return key.hex() + std::string(kExtension); }
std::string shard_name(const Key& key) { return key.hex().substr(0, 2); }

Error refused(const fs::path& root, std::string_view reason) {
  return Error{
      ErrorCode::io_error,
      fmt::format("the cache directory {} {}; name another in LUTSMITH_CACHE_DIR", root.native(), reason),
      ""};
}

// Who can write to the cache can make other programs run his kernels, so it must be the user's own or
// root's. Being readable does no harm.
Result<void> check_private(const Descriptor& directory, const fs::path& root) {
  struct stat status{};
  if (fstat(directory.number(), &status) != 0) return std::unexpected(system_error(errno, "inspect", root));
  // Root's is as good: a cache warmed in an image build, that the program may only read.
  if (status.st_uid != geteuid() && status.st_uid != 0) {
    return std::unexpected(
        refused(root, fmt::format("belongs to user {}, not to {}", status.st_uid, geteuid())));
  }
  if ((status.st_mode & kWritableByOthers) != 0) {
    return std::unexpected(refused(
        root, fmt::format("can be written by other users (mode {:o}): make it private by chmod 700, or",
                          status.st_mode & 07777U)));
  }
  return {};
}

Result<void> make_directories(const fs::path& path) {
  fs::path made;
  for (const fs::path& part : path) {
    made /= part;
    if (mkdir(made.c_str(), kPrivate) == 0 || errno == EEXIST) continue;
    const int reason = errno;
    struct stat status{};
    // On a read-only file system what exists already may answer EROFS or EACCES.
    if (stat(made.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) continue;
    return std::unexpected(system_error(reason, "create the cache directory", made));
  }
  return {};
}

/// An invalid descriptor where the root is missing and is to be kept so.
Result<Descriptor> open_root(const fs::path& root, Missing missing) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  Descriptor directory(::open(root.c_str(), kFlags));
  if (!directory.valid() && errno == ENOENT) {
    if (missing == Missing::keep) return Descriptor();
    if (Result<void> created = make_directories(root); !created) return std::unexpected(created.error());
    directory = Descriptor(::open(root.c_str(), kFlags));
  }
  if (!directory.valid()) {
    const int reason = errno;
    std::error_code ignored;
    if (fs::is_symlink(root, ignored)) return std::unexpected(refused(root, "is a symbolic link"));
    return std::unexpected(system_error(reason, "open the cache directory", root));
  }
  if (Result<void> safe = check_private(directory, root); !safe) return std::unexpected(safe.error());
  return directory;
}

/// A folder in an open one; invalid where it is missing and is to be kept so.
Result<Descriptor> open_folder(const Descriptor& parent, const char* name, const fs::path& path,
                               Missing missing) {
  if (missing == Missing::create && mkdirat(parent.number(), name, kPrivate) != 0 && errno != EEXIST) {
    return std::unexpected(system_error(errno, "create", path));
  }
  Descriptor folder(openat(parent.number(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.valid() && (errno != ENOENT || missing == Missing::create)) {
    return std::unexpected(system_error(errno, "open", path));
  }
  return folder;
}

/// The folder a key's entry stands in.
Result<Descriptor> open_shard(const fs::path& root, const Key& key, Missing missing) {
  Result<Descriptor> top = open_root(root, missing);
  if (!top || !top->valid()) return top;
  Result<Descriptor> layout = open_folder(*top, kLayoutFolder, root / kLayoutFolder, missing);
  if (!layout || !layout->valid()) return layout;
  const std::string shard = shard_name(key);
  return open_folder(*layout, shard.c_str(), root / kLayoutFolder / shard, missing);
}

/// The bytes of a file. Errors: corrupt_data where it is no regular file or too long for an entry.
Result<std::vector<std::byte>> read_file(const Descriptor& file, const fs::path& path) {
  struct stat status{};
  if (fstat(file.number(), &status) != 0) return std::unexpected(system_error(errno, "inspect", path));
  if (!S_ISREG(status.st_mode))
    return std::unexpected(Error{ErrorCode::corrupt_data, "it is no regular file", ""});
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
    if (count < 0) return std::unexpected(system_error(errno, "read", path));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

/// Errors: not_found where there is no file, else those of read_file and decode.
Result<Entry> read_entry(const Descriptor& shard, const std::string& name, const fs::path& path) {
  // O_NONBLOCK: opening a pipe that somebody left here must not wait for a writer.
  const Descriptor file(openat(shard.number(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid()) {
    const int reason = errno;
    if (reason == ENOENT || reason == ESTALE) return std::unexpected(Error{ErrorCode::not_found, "", ""});
    if (reason == ELOOP) {
      return std::unexpected(Error{ErrorCode::corrupt_data, "it is a symbolic link", ""});
    }
    return std::unexpected(system_error(reason, "open", path));
  }
  const Result<std::vector<std::byte>> bytes = read_file(file, path);
  if (!bytes) return std::unexpected(bytes.error());
  return decode(*bytes);
}

// Out of the way, but kept for whoever wants to know what happened. One file per key, so it cannot grow.
void put_aside(const Descriptor& shard, const std::string& name) {
  const std::string aside = name + ".bad";
  if (renameat(shard.number(), name.c_str(), shard.number(), aside.c_str()) != 0) {
    unlinkat(shard.number(), name.c_str(), 0);
  }
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

/// Names in a folder; none where it is missing or cannot be read.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, CloseDirectory> directory(opendir(folder.c_str()));
  if (directory == nullptr) return names;
  while (const dirent* found = readdir(directory.get())) {  // NOLINT(concurrency-mt-unsafe): own stream
    names.emplace_back(static_cast<const char*>(found->d_name));
  }
  return names;
}

}  // namespace

Result<std::unique_ptr<DiskStore>> DiskStore::open(const fs::path& root) {
  std::error_code failed;
  fs::path absolute = fs::absolute(root, failed).lexically_normal();
  // A trailing slash would make the system follow a symbolic link.
  if (absolute.filename().empty()) absolute = absolute.parent_path();
  if (root.empty() || failed) {
    return std::unexpected(Error{ErrorCode::invalid_argument, "the cache directory has no usable name", ""});
  }
  Result<Descriptor> directory = open_root(absolute, Missing::create);
  if (!directory) return std::unexpected(std::move(directory.error()));
  return std::unique_ptr<DiskStore>(new DiskStore(std::move(absolute)));
}

fs::path DiskStore::path_of(const Key& key) const {
  return root_ / kLayoutFolder / shard_name(key) / file_name(key);
}

Result<Lookup> DiskStore::get(const Key& key) {
  Result<Descriptor> shard = open_shard(root_, key, Missing::keep);
  if (!shard) return std::unexpected(std::move(shard.error()));
  Lookup lookup;
  if (!shard->valid()) return lookup;
  const std::string name = file_name(key);
  const fs::path path = path_of(key);
  Result<Entry> entry = read_entry(*shard, name, path);
  if (entry) {
    lookup.state = LookupState::hit;
    lookup.entry = std::move(*entry);
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
      put_aside(*shard, name);
      lookup.state = LookupState::damaged;
      lookup.note = fmt::format("the cache entry {} is damaged: {}", path.native(), entry.error().message);
      return lookup;
    default:
      return std::unexpected(std::move(entry.error()));
  }
}

Result<void> DiskStore::put(const Key& key, const Entry& entry) {
  Result<std::vector<std::byte>> bytes = encode(entry);
  if (!bytes) return std::unexpected(std::move(bytes.error()));
  Result<Descriptor> shard = open_shard(root_, key, Missing::create);
  if (!shard) return std::unexpected(std::move(shard.error()));
  Result<AtomicFile> file = AtomicFile::create(*shard, file_name(key), path_of(key));
  if (!file) return std::unexpected(std::move(file.error()));
  if (Result<void> written = file->write(*bytes); !written) return written;
  return file->commit();
}

Result<bool> DiskStore::remove(const Key& key) {
  Result<Descriptor> shard = open_shard(root_, key, Missing::keep);
  if (!shard) return std::unexpected(std::move(shard.error()));
  if (!shard->valid()) return false;
  if (unlinkat(shard->number(), file_name(key).c_str(), 0) == 0) return true;
  if (errno == ENOENT) return false;
  return std::unexpected(system_error(errno, "remove", path_of(key)));
}

std::unique_ptr<Claim> DiskStore::claim(const Key& key, std::chrono::milliseconds longest) {
  Result<Descriptor> root = open_root(root_, Missing::create);
  if (!root) return nullptr;
  Result<Descriptor> layout = open_folder(*root, kLayoutFolder, root_ / kLayoutFolder, Missing::create);
  if (!layout) return nullptr;
  return KeyLock::acquire(*layout, key, longest);
}

Result<void> DiskStore::scan(const std::function<bool(const StoredEntry&)>& visit) {
  Result<Descriptor> root = open_root(root_, Missing::keep);
  if (!root) return std::unexpected(std::move(root.error()));
  if (!root->valid()) return {};
  const fs::path layout = root_ / kLayoutFolder;
  for (const std::string& shard : names_in(layout)) {
    if (shard.size() != 2) continue;
    for (const std::string& name : names_in(layout / shard)) {
      if (!name.ends_with(kExtension)) continue;
      const std::optional<Key> key =
          Key::parse(std::string_view(name).substr(0, name.size() - kExtension.size()));
      struct stat status{};
      if (!key || shard_name(*key) != shard || lstat((layout / shard / name).c_str(), &status) != 0 ||
          !S_ISREG(status.st_mode)) {
        continue;
      }
      if (!visit({.key = *key, .bytes = static_cast<std::uint64_t>(status.st_size)})) return {};
    }
  }
  return {};
}

}  // namespace lutsmith::cache
