#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <map>
#include <system_error>

#include "cache/bundles/bundle.h"
#include "cache/bundles/bundled_bytes.h"
#include "core/atomic_file.h"
#include "core/descriptor.h"
#include "core/result.h"
#include "core/scratch.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;

/// Where the entries wait until their digests are known, which stand before them in the bundle. Has no name,
/// so that nothing of it stays, whatever happens.
class Spool {
 public:
  /// In the directory of `beside`, where there must be room for the bundle anyway.
  static Result<Spool> create(const fs::path& beside) {
    std::string name = beside.native() + ".tmp.XXXXXX";
    const core::ScratchLock lock;  // a program that is interrupted ends before it has the name or after
    core::Descriptor file(mkostemp(name.data(), O_CLOEXEC));
    if (!file.valid())
      return std::unexpected(core::system_error(errno, "create a temporary file for", beside));
    unlink(name.c_str());
    return Spool(std::move(file), beside);
  }

  Result<void> append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(file_.number(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return std::unexpected(core::system_error(errno, "write a temporary file for", path_));
      bytes = bytes.subspan(static_cast<std::size_t>(written));
      size_ += static_cast<std::uint64_t>(written);
    }
    return {};
  }

  Result<void> copy_to(core::AtomicFile& file) const {
    std::vector<std::byte> piece(std::size_t{1} << 20);
    for (std::uint64_t done = 0; done < size_;) {
      const Result<std::size_t> count = read_at(file_, done, piece, path_);
      if (!count) return std::unexpected(count.error());
      if (*count == 0) return std::unexpected(core::system_error(EIO, "read a temporary file for", path_));
      if (Result<void> written = file.write(std::span(piece).first(*count)); !written) return written;
      done += *count;
    }
    return {};
  }

  std::uint64_t size() const { return size_; }

 private:
  Spool(core::Descriptor file, fs::path path) : file_(std::move(file)), path_(std::move(path)) {}
  core::Descriptor file_;
  fs::path path_;
  std::uint64_t size_ = 0;
};

/// An entry of a store; the error says why there is none.
Result<Entry> look_up(Store& from, const Key& key) {
  Result<Lookup> found = from.get(key);
  if (!found) return failure(found);
  switch (found->state) {
    case LookupState::hit:
      break;
    case LookupState::miss:
      return std::unexpected(Error{ErrorCode::not_found, "it is not in the cache", ""});
    case LookupState::damaged:
    case LookupState::newer:
      return corrupt(found->note);
  }
  return std::move(found->entry);
}

/// An entry's bytes as they go into a bundle.
Result<std::vector<std::byte>> encoded(const Entry& entry, const Key& key) {
  if (belongs_to(entry, key)) return encode(entry);
  return corrupt("its own description does not name its key");
}

/// What is to go into a bundle, by rising key: an entry of its own, or null for the store's.
using Wanted = std::map<Key, const Entry*>;

Result<std::vector<std::byte>> encoded(Store& from, const Wanted::value_type& wanted) {
  const auto& [key, other] = wanted;
  if (other != nullptr) return encoded(*other, key);
  Result<Entry> entry = look_up(from, key);
  if (!entry) return failure(entry);
  return encoded(*entry, key);
}

// The rename would put a file in the place of a device, and root may do so.
Result<void> check_destination(const fs::path& path) {
  if (path.filename().empty()) {
    return refuse(fmt::format("{} names no file", path.native()));
  }
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (!fs::exists(status) || fs::is_regular_file(status)) return {};
  return refuse(
      fmt::format("{} is not a regular file; name one that is, or that is not there", path.native()));
}

Result<void> write_bundle(const fs::path& path, std::span<const std::byte> head, const Spool& entries) {
  // Not the cache's own AtomicFile: what that leaves when the program is ended, the cache removes later, and
  // nobody does beside a bundle.
  Result<core::AtomicFile> file = core::AtomicFile::create(path);
  if (!file) return std::unexpected(std::move(file.error()));
  if (Result<void> written = file->write(head); !written) return written;
  if (Result<void> copied = entries.copy_to(*file); !copied) return copied;
  return file->commit();
}

}  // namespace

Result<std::vector<Key>> all_keys(Store& store) {
  std::vector<Key> keys;
  Result<void> scanned = store.scan([&keys](const StoredEntry& entry) {
    keys.push_back(entry.key);
    return true;
  });
  if (!scanned) return std::unexpected(std::move(scanned.error()));
  return keys;
}

Result<ExportSummary> export_bundle(Store& from, std::span<const Key> keys, const fs::path& path,
                                    const ExportOptions& options) {
  if (Result<void> usable = check_destination(path); !usable)
    return std::unexpected(std::move(usable.error()));
  Wanted wanted;
  for (const Key& key : keys) wanted.emplace(key, nullptr);
  for (const OtherEntry& other : options.others) wanted.insert_or_assign(other.key, &other.entry);
  Result<Spool> spool = Spool::create(path);
  if (!spool) return std::unexpected(std::move(spool.error()));

  BundleIndex index{
      .created = fmt::format("{:%FT%TZ}", std::chrono::floor<std::chrono::seconds>(options.created)),
      .signer = {},
      .entries = {}};
  ExportSummary summary;
  std::size_t done = 0;
  for (const auto& each : wanted) {
    const auto& [key, other] = each;
    Result<std::vector<std::byte>> bytes = encoded(from, each);
    if (bytes) {
      if (Result<void> kept = spool->append(*bytes); !kept) return std::unexpected(std::move(kept.error()));
      index.entries.push_back({.key = key, .bytes = bytes->size(), .sha256 = digest_of(*bytes)});
      ++(other != nullptr ? summary.others : summary.entries);
    } else {
      summary.left_out.push_back({.key = key, .reason = std::move(bytes.error().message)});
    }
    ++done;
    if (options.progress) options.progress(done, wanted.size());
  }
  if (index.entries.empty()) {
    Error error{ErrorCode::not_found, fmt::format("none of {} entries can be exported", wanted.size()), ""};
    for (const LeftOut& entry : summary.left_out) {
      error.context += fmt::format("{}: {}\n", entry.key.hex(), entry.reason);
    }
    return std::unexpected(std::move(error));
  }
  const Result<std::vector<std::byte>> head = write_bundle_head(index, options.signer);
  if (!head) return std::unexpected(head.error());
  if (Result<void> written = write_bundle(path, *head, *spool); !written) {
    return std::unexpected(std::move(written.error()));
  }
  summary.bytes = head->size() + spool->size();
  return summary;
}

}  // namespace lutsmith::cache
