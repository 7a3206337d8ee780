#include "cache/stores/disk_folders.h"

#include "cache/stores/atomic_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".lutk";
constexpr std::string_view kDamaged = ".bad";
constexpr mode_t kPrivate = 0700;
constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;

Error refused(const fs::path& root, std::string_view reason) {
  return Error{ErrorCode::io_error,
               fmt::format("the directory {} is not used as a kernel cache: it {}", root.native(), reason),
               ""};
}

// Who can write to the cache can make other programs run his kernels, so it must be the user's own or
// root's. Being readable does no harm.
Result<void> check_private(const core::Descriptor& directory, const fs::path& root) {
  struct stat status{};
  if (fstat(directory.number(), &status) != 0)
    return std::unexpected(core::system_error(errno, "inspect", root));
  if (is_trusted(status)) return {};
  // Root's is as good: a cache warmed in an image build, that the program may only read.
  if (status.st_uid != geteuid() && status.st_uid != 0) {
    return std::unexpected(
        refused(root, fmt::format("belongs to user {}, not to {}; name another", status.st_uid, geteuid())));
  }
  return std::unexpected(
      refused(root, fmt::format("can be written by other users (mode {:o}); make it private by: chmod 700 {}",
                                status.st_mode & 07777U, root.native())));
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
    return std::unexpected(core::system_error(reason, "create the cache directory", made));
  }
  return {};
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

}  // namespace

std::string entry_file_name(const Key& key) { return key.hex() + std::string(kExtension); }
std::string shard_name(const Key& key) { return key.hex().substr(0, 2); }
bool is_trusted(const struct stat& status) {
  return (status.st_uid == geteuid() || status.st_uid == 0) && (status.st_mode & kWritableByOthers) == 0;
}

std::chrono::system_clock::time_point last_used(const struct stat& file) {
  const auto since_epoch =
      std::chrono::seconds(file.st_mtim.tv_sec) + std::chrono::nanoseconds(file.st_mtim.tv_nsec);
  return std::chrono::system_clock::time_point(since_epoch);
}

std::string damaged_name(std::string_view entry_file) {
  return std::string(entry_file) + std::string(kDamaged);
}

NamedFile classify(std::string_view shard, std::string_view file) {
  std::optional<Key> key = Key::parse(file.substr(0, Key::kDigits));
  if (!key || shard_name(*key) != shard) return {};
  const std::string_view rest = file.substr(Key::kDigits);
  if (!rest.starts_with(kExtension)) return {};
  const std::string_view suffix = rest.substr(kExtension.size());
  FileKind kind = FileKind::foreign;
  if (suffix.empty()) {
    kind = FileKind::entry;
  } else if (suffix == kDamaged) {
    kind = FileKind::damaged;
  } else if (suffix.starts_with(AtomicFile::kTemporarySuffix)) {
    kind = FileKind::temporary;
  } else {
    return {};
  }
  return {kind, std::move(key)};
}

Result<core::Descriptor> open_root(const fs::path& root, Missing missing) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  core::Descriptor directory(::open(root.c_str(), kFlags));
  if (!directory.valid() && errno == ENOENT) {
    if (missing == Missing::keep) return core::Descriptor();
    if (Result<void> created = make_directories(root); !created) return std::unexpected(created.error());
    directory = core::Descriptor(::open(root.c_str(), kFlags));
  }
  if (!directory.valid()) {
    const int reason = errno;
    std::error_code ignored;
    if (fs::is_symlink(root, ignored))
      return std::unexpected(refused(root, "is a symbolic link; name what it points to"));
    return std::unexpected(core::system_error(reason, "open the cache directory", root));
  }
  if (Result<void> safe = check_private(directory, root); !safe) return std::unexpected(safe.error());
  return directory;
}

Result<core::Descriptor> open_folder(const core::Descriptor& parent, const char* name, const fs::path& path,
                                     Missing missing) {
  if (missing == Missing::create && mkdirat(parent.number(), name, kPrivate) != 0 && errno != EEXIST) {
    return std::unexpected(core::system_error(errno, "create", path));
  }
  core::Descriptor folder(openat(parent.number(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.valid() && (errno != ENOENT || missing == Missing::create)) {
    return std::unexpected(core::system_error(errno, "open", path));
  }
  if (folder.valid()) {
    if (Result<void> safe = check_private(folder, path); !safe) return std::unexpected(safe.error());
  }
  return folder;
}

Result<core::Descriptor> open_layout(const fs::path& root, Missing missing) {
  Result<core::Descriptor> top = open_root(root, missing);
  if (!top || !top->valid()) return top;
  return open_folder(*top, kLayoutFolder, root / kLayoutFolder, missing);
}

std::vector<std::string> shard_names_in(const core::Descriptor& layout) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  std::vector<std::string> shards = names_in(layout);
  std::erase_if(shards, [&](const std::string& name) {
    return name.size() != 2 || !std::ranges::all_of(name, is_digit);
  });
  std::ranges::sort(shards);
  return shards;
}

std::vector<std::string> names_in(const core::Descriptor& folder) {
  std::vector<std::string> names;
  // The stream takes the descriptor it is given, and its position; so it gets one of its own.
  const int own = openat(folder.number(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return names;
  const std::unique_ptr<DIR, CloseDirectory> directory(fdopendir(own));
  if (directory == nullptr) {
    close(own);
    return names;
  }
  while (const dirent* found = readdir(directory.get())) {  // NOLINT(concurrency-mt-unsafe): own stream
    names.emplace_back(static_cast<const char*>(found->d_name));
  }
  return names;
}

}  // namespace lutsmith::cache
