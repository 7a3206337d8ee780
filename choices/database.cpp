#include "choices/database.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "cache/stores/atomic_file.h"
#include "cache/stores/disk_folders.h"
#include "choices/shipped_files.h"
#include "core/atomic_file.h"
#include "core/descriptor.h"
#include "core/file_lock.h"
#include "core/result.h"

namespace lutsmith::choices {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLockName = "lock";
/// Whoever holds the lock reads and writes a file; one that hangs must not hold up everybody else.
constexpr std::chrono::seconds kLongestWait{30};
constexpr std::size_t kMostBytes = std::size_t{64} << 20;

Error in_file(const fs::path& path, Error error) {
  error.message = fmt::format("{}: {}", path.native(), error.message);
  return error;
}

/// The text of a file in an open folder (AT_FDCWD: by its path); nothing where there is none.
Result<std::optional<std::string>> read_text(int folder, const std::string& name, const fs::path& path) {
  const core::Descriptor file(openat(folder, name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid() && errno == ENOENT) return std::nullopt;
  struct stat status{};
  if (!file.valid() || fstat(file.number(), &status) != 0) {
    return std::unexpected(core::system_error(errno, "read", path));
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (!S_ISREG(status.st_mode) || size > kMostBytes) {
    return std::unexpected(Error{ErrorCode::corrupt_data,
                                 fmt::format("{}: it is no file of at most 64 MiB", path.native()), ""});
  }
  std::string text(size, '\0');
  std::size_t have = 0;
  while (have < size) {
    const ssize_t got = ::read(file.number(), text.data() + have, size - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::unexpected(core::system_error(errno, "read", path));
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  text.resize(have);
  return text;
}

/// The document in a folder; nothing where there is none.
Result<std::optional<Document>> read_in(const core::Descriptor& folder, const std::string& name,
                                        const fs::path& path) {
  Result<std::optional<std::string>> text = read_text(folder.number(), name, path);
  if (!text) return failure(text);
  if (!*text) return std::nullopt;
  Result<Document> document = parse_document(**text);
  if (!document) return std::unexpected(in_file(path, document.error()));
  if (file_name(document->gpu()) != name) {
    return std::unexpected(Error{
        ErrorCode::corrupt_data,
        fmt::format("{}: it is of {}, which its name does not say", path.native(), describe(document->gpu())),
        ""});
  }
  return *std::move(document);
}

/// The folder `tuned` of a cache directory; invalid where it is missing and is to be kept so.
Result<core::Descriptor> open_tuned(const fs::path& directory, cache::Missing missing) {
  Result<core::Descriptor> root = cache::open_root(directory, missing);
  if (!root || !root->valid()) return root;
  return cache::open_folder(*root, Database::kFolder, directory / Database::kFolder, missing);
}

void complain_of(const Complain& complain, const Error& error) {
  if (complain) complain(fmt::format("tuned choices are not used: {}", error.message));
}

/// What a cache directory knows of a GPU.
std::optional<Document> read_directory(const fs::path& directory, const std::string& name,
                                       const Complain& complain) {
  Result<core::Descriptor> folder = open_tuned(directory, cache::Missing::keep);
  if (!folder) {
    complain_of(complain, folder.error());
    return std::nullopt;
  }
  if (!folder->valid()) return std::nullopt;
  Result<std::optional<Document>> document = read_in(*folder, name, directory / Database::kFolder / name);
  if (!document) {
    complain_of(complain, document.error());
    return std::nullopt;
  }
  if (const std::size_t unread = *document ? (*document)->unread() : 0; unread > 0 && complain) {
    complain(fmt::format("{}: {} passed over, which this version of lutsmith cannot read",
                         (directory / Database::kFolder / name).native(),
                         unread == 1 ? "an entry is" : fmt::format("{} entries are", unread)));
  }
  return *std::move(document);
}

/// Entries of `nearer` before those of `all`.
void put_before(Document& all, const Document& nearer) {
  for (const auto& [spec, entry] : nearer.entries()) all.put(entry);
}

/// Names of the files of this schema in a folder `tuned`, sorted.
std::vector<std::string> documents_in(const core::Descriptor& folder) {
  std::vector<std::string> names = cache::names_in(folder);
  std::erase_if(names,
                [](const std::string& name) { return !name.ends_with(fmt::format(".v{}.json", kSchema)); });
  std::ranges::sort(names);
  return names;
}

/// A damaged file out of the way, but kept for whoever wants to know what happened.
void put_aside(const core::Descriptor& folder, const std::string& name) {
  static_cast<void>(renameat(folder.number(), name.c_str(), folder.number(), (name + ".damaged").c_str()));
}

}  // namespace

const std::vector<Document>& shipped_documents() {
  static const std::vector<Document> documents = [] {
    std::vector<Document> parsed;
    for (const EmbeddedFile& file : shipped_files()) {
      if (Result<Document> document = parse_document(file.text)) parsed.push_back(*std::move(document));
    }
    return parsed;
  }();
  return documents;
}

const Entry* find_shipped(const Gpu& gpu, const KernelSpec& spec) {
  for (const Document& shipped : shipped_documents()) {
    if (shipped.gpu() != gpu) continue;
    if (const Entry* entry = shipped.find(spec)) return entry;
  }
  return nullptr;
}

Result<void> write_file(const fs::path& path, const Document& document) {
  Result<core::AtomicFile> file = core::AtomicFile::create(path);
  if (!file) return failure(file);
  const std::string text = write_document(document);
  Result<void> written = file->write(std::as_bytes(std::span(text)));
  if (written) written = file->commit();
  return written;
}

Result<Document> read_document(const fs::path& path) {
  Result<std::optional<std::string>> text = read_text(AT_FDCWD, path.string(), path);
  if (!text) return failure(text);
  if (!*text) {
    return std::unexpected(
        Error{ErrorCode::not_found, fmt::format("{}: there is no such file", path.native()), ""});
  }
  Result<Document> document = parse_document(**text);
  if (!document) return std::unexpected(in_file(path, document.error()));
  return document;
}

Document Database::read(const Gpu& gpu, const Complain& complain) const {
  Document all(gpu);
  for (const Document& shipped : shipped_documents()) {
    if (shipped.gpu() == gpu) put_before(all, shipped);
  }
  put_before(all, read_directories(gpu, complain));
  return all;
}

Document Database::read_directories(const Gpu& gpu, const Complain& complain) const {
  Document all(gpu);
  std::vector<fs::path> directories(system_.rbegin(), system_.rend());
  if (!own_.empty()) directories.push_back(own_);
  for (const fs::path& directory : directories) {
    const std::optional<Document> found = read_directory(directory, file_name(gpu), complain);
    if (found && found->gpu() == gpu) put_before(all, *found);
  }
  return all;
}

Document Database::read_own(const Gpu& gpu) const {
  if (own_.empty()) return Document(gpu);
  std::optional<Document> found = read_directory(own_, file_name(gpu), {});
  return found && found->gpu() == gpu ? *std::move(found) : Document(gpu);
}

Result<std::unique_ptr<core::FileLock>> Database::lock_gpu(const std::string& address,
                                                           std::chrono::milliseconds longest) const {
  if (own_.empty() || address.empty()) return nullptr;
  Result<core::Descriptor> folder = open_tuned(own_, cache::Missing::create);
  if (!folder) return failure(folder);
  // A byte for each GPU; two that have the same, once in 2^31, wait for each other.
  const auto byte = static_cast<std::int64_t>(std::hash<std::string>()(address) & 0x7fffffffU);
  bool timed_out = false;
  std::unique_ptr<core::FileLock> lock =
      core::FileLock::acquire(*folder, "gpu-lock", byte, longest, &timed_out);
  if (timed_out) {
    return std::unexpected(
        Error{ErrorCode::unsupported,
              fmt::format("another process measures on the GPU at {}; wait for it", address), ""});
  }
  return lock;
}

std::vector<Document> Database::read_all(const Complain& complain) const {
  std::map<std::string, Gpu> gpus;
  for (const Document& shipped : shipped_documents()) gpus.emplace(file_name(shipped.gpu()), shipped.gpu());
  std::vector<fs::path> directories = system_;
  if (!own_.empty()) directories.push_back(own_);
  for (const fs::path& directory : directories) {
    const Result<core::Descriptor> folder = open_tuned(directory, cache::Missing::keep);
    if (!folder || !folder->valid()) continue;
    for (const std::string& name : documents_in(*folder)) {
      if (gpus.contains(name)) continue;
      // What is wrong with it is told by `read`.
      if (const auto found = read_directory(directory, name, {})) gpus.emplace(name, found->gpu());
    }
  }
  std::vector<Document> documents;
  for (const auto& [name, gpu] : gpus) documents.push_back(read(gpu, complain));
  return documents;
}

std::vector<Document> Database::read_all_own(const Complain& complain) const {
  std::vector<Document> documents;
  if (own_.empty()) return documents;
  const Result<core::Descriptor> folder = open_tuned(own_, cache::Missing::keep);
  if (!folder) complain_of(complain, folder.error());
  if (!folder || !folder->valid()) return documents;
  for (const std::string& name : documents_in(*folder)) {
    std::optional<Document> found = read_directory(own_, name, complain);
    if (found && found->entries().size() + found->unread() > 0) documents.push_back(*std::move(found));
  }
  return documents;
}

Result<Gpu> Database::find_gpu(std::string_view text) const {
  const auto lower = [](std::string_view mixed) {
    std::string result(mixed);
    for (char& c : result) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return result;
  };
  std::vector<Gpu> found;
  std::vector<std::string> known;
  for (const Document& document : read_all({})) {
    const Gpu& gpu = document.gpu();
    if (gpu.name == text) return gpu;
    known.push_back(gpu.name);
    if (lower(gpu.name).find(lower(text)) != std::string::npos) found.push_back(gpu);
  }
  if (found.size() == 1) return found.front();
  const std::string all = known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", "));
  if (found.empty()) {
    return std::unexpected(
        Error{ErrorCode::not_found,
              fmt::format("gpu: no choices were tuned on '{}'; GPUs with some: {}", text, all), ""});
  }
  return refuse(fmt::format("gpu: '{}' may be several; GPUs with tuned choices: {}", text, all));
}

Result<void> Database::add(const Document& found) const {
  if (own_.empty()) {
    return std::unexpected(
        Error{ErrorCode::not_found,
              "tuned choices cannot be kept: there is no cache directory that can be written", ""});
  }
  Result<core::Descriptor> folder = open_tuned(own_, cache::Missing::create);
  if (!folder) return failure(folder);
  bool timed_out = false;
  // Where there are no locks, one writer at a time is right without them.
  const auto lock = core::FileLock::acquire(*folder, kLockName, 0, kLongestWait, &timed_out);
  if (timed_out) {
    return std::unexpected(Error{ErrorCode::io_error,
                                 fmt::format("{}: another process has held the lock for {} seconds",
                                             path_of(found.gpu()).native(), kLongestWait.count()),
                                 ""});
  }
  const std::string name = file_name(found.gpu());
  const fs::path path = path_of(found.gpu());
  Document merged(found.gpu());
  Result<std::optional<Document>> present = read_in(*folder, name, path);
  if (!present && present.error().code != ErrorCode::corrupt_data) return failure(present);
  if (!present) {
    put_aside(*folder, name);
  } else if (*present) {
    if ((*present)->gpu() != found.gpu()) {
      return std::unexpected(
          Error{ErrorCode::unsupported,
                fmt::format("{}: it is of {} for {}; no choices of {} for {} can be added", path.native(),
                            describe((*present)->gpu()), (*present)->gpu().target.name(),
                            describe(found.gpu()), found.gpu().target.name()),
                ""});
    }
    merged = **std::move(present);
  }
  merged.merge(found);
  Result<cache::AtomicFile> file = cache::AtomicFile::create(*folder, name, path);
  if (!file) return failure(file);
  const std::string text = write_document(merged);
  Result<void> written = file->write(std::as_bytes(std::span(text)));
  if (written) written = file->commit();
  return written;
}

}  // namespace lutsmith::choices
