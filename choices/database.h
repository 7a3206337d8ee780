#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "choices/document.h"
#include "core/file_lock.h"
#include "lutsmith/error.h"

namespace lutsmith::choices {

/// Told of a document that cannot be used, in a sentence. It counts as missing.
using Complain = std::function<void(std::string_view)>;

/// Documents of tuned choices: a file for each model of GPU in the folder `tuned` of a cache directory, in
/// those of directories that are only read, and in the library itself. Where several have an entry for a
/// spec, the user's own comes before those of the directories, in their order, and these before the
/// library's.
///
/// Many processes may add to one file: it is replaced whole, under a lock of the host, by one that has the
/// entries of both. Thread-safe.
class Database {
 public:
  static constexpr const char* kFolder = "tuned";

  /// `own`: the cache directory to add to; empty where there is none. `system`: those that are only read.
  Database(std::filesystem::path own, std::vector<std::filesystem::path> system)
      : own_(std::move(own)), system_(std::move(system)) {}

  /// All that is known of a GPU.
  Document read(const Gpu& gpu, const Complain& complain) const;
  /// The same without what comes with the library.
  Document read_directories(const Gpu& gpu, const Complain& complain) const;
  /// What the user's own document alone has of it.
  Document read_own(const Gpu& gpu) const;
  /// The same as `read`, of every GPU that something is known of, in the order of their names.
  std::vector<Document> read_all(const Complain& complain) const;

  /// The user's own documents alone, of every GPU that has entries there, in the order of their names.
  std::vector<Document> read_all_own(const Complain& complain) const;

  /// The GPU of which something is known and whose name is `text`, or has it in it, in any case. Errors:
  /// not_found, invalid_argument where there are several; both name those that are known.
  Result<Gpu> find_gpu(std::string_view text) const;

  /// Adds entries to the user's own document, which is made where it is missing. One that is damaged is put
  /// aside first. Errors: not_found where there is no own directory; unsupported where the file is of another
  /// schema or GPU, which is left alone; io_error.
  Result<void> add(const Document& found) const;
  /// Held by the one process of the host that measures on a GPU; `address` names it among the machine's.
  /// Waits for another at most `longest`, then fails (unsupported). Null where there are no locks.
  Result<std::unique_ptr<core::FileLock>> lock_gpu(const std::string& address,
                                                   std::chrono::milliseconds longest) const;
  /// The file that `add` writes to.
  std::filesystem::path path_of(const Gpu& gpu) const { return own_ / kFolder / file_name(gpu); }

 private:
  std::filesystem::path own_;
  std::vector<std::filesystem::path> system_;
};

/// Those that come with the library.
const std::vector<Document>& shipped_documents();
/// What they have for a spec on a GPU; null: nothing.
const Entry* find_shipped(const Gpu& gpu, const KernelSpec& spec);

/// Writes one file, wherever it lies, whole or not at all. Error: io_error.
Result<void> write_file(const std::filesystem::path& path, const Document& document);

/// Reads one file, wherever it lies. Errors: those of parse_document, with the path in front; not_found;
/// io_error.
Result<Document> read_document(const std::filesystem::path& path);

}  // namespace lutsmith::choices
