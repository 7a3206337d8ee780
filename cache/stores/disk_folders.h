#pragma once

#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/key.h"
#include "core/descriptor.h"
#include "lutsmith/error.h"

// Names and folders of a cache directory; disk_store.h has the picture. All folders are opened by descriptor
// and without following links, so that nothing outside the directory is ever read, written or removed.

namespace lutsmith::cache {

inline constexpr const char* kLayoutFolder = "v1";

/// Whether a missing directory is to be made.
enum class Missing { keep, create };

/// The file name of a key's entry, and the folder it stands in.
std::string entry_file_name(const Key& key);
std::string shard_name(const Key& key);

/// What a file in a shard is by its name.
enum class FileKind {
  entry,
  damaged,    ///< an entry put aside
  temporary,  ///< an entry that is being written, or was when its writer died
  foreign,    ///< not the cache's: never touched
};
struct NamedFile {
  FileKind kind = FileKind::foreign;
  std::optional<Key> key;  ///< of all but foreign files
};
NamedFile classify(std::string_view shard, std::string_view file);

/// Whether a file or folder is the user's own or root's, and nobody else may write to it.
bool is_trusted(const struct stat& status);

/// When an entry was last used: its stamp is the time of modification.
std::chrono::system_clock::time_point last_used(const struct stat& file);

/// The name an entry is put aside under: one for each key, so that they cannot pile up.
std::string damaged_name(std::string_view entry_file);

/// Opens the cache directory itself. An invalid descriptor where it is missing and is to be kept so. Errors:
/// it cannot be made or opened, is a symbolic link, belongs to somebody else than the user or root, or can be
/// written by others.
Result<core::Descriptor> open_root(const std::filesystem::path& root, Missing missing);

/// A folder in an open one; invalid where it is missing and is to be kept so. `path` is for messages. Errors:
/// as for the root, which may have been others' to write before.
Result<core::Descriptor> open_folder(const core::Descriptor& parent, const char* name,
                                     const std::filesystem::path& path, Missing missing);

/// The folder that holds the shards, below a root.
Result<core::Descriptor> open_layout(const std::filesystem::path& root, Missing missing);

/// Names of the shards below the layout's folder, in order.
std::vector<std::string> shard_names_in(const core::Descriptor& layout);

/// Names in a folder; none where it cannot be read.
std::vector<std::string> names_in(const core::Descriptor& folder);

}  // namespace lutsmith::cache
