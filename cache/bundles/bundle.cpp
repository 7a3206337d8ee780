#include "cache/bundles/bundle.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/atomic_file.h"
#include "core/descriptor.h"
#include "core/result.h"
#include "core/scratch.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::unexpected<Error> fault(ErrorCode code, std::string message) {
  return std::unexpected(Error{code, std::move(message), ""});
}

std::string digest_of(std::span<const std::byte> bytes) {
  const llvm::ArrayRef raw(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  return llvm::toHex(llvm::SHA256::hash(raw), /*LowerCase=*/true);
}

void report(const BundleProgress& progress, std::size_t done, std::size_t total) {
  if (progress) progress(done, total);
}

/// Whether the entry itself says it is this key's: a right entry under a wrong key would be a wrong kernel.
bool belongs_to(const Entry& entry, const Key& key) {
  // Keeps the members at the top only, so that what is nested below costs nothing.
  const auto keep = [](int depth, Json::parse_event_t event, const Json& /*parsed*/) {
    return depth == 0 ||
           (depth == 1 && (event == Json::parse_event_t::key || event == Json::parse_event_t::value));
  };
  const Json manifest = Json::parse(entry.manifest, keep, /*allow_exceptions=*/false);
  if (!manifest.is_object()) return false;
  const auto found = manifest.find("key");
  return found != manifest.end() && *found == key.hex();
}

/// Fills `bytes` from `offset` on; fewer where the file ends.
Result<std::size_t> read_at(const core::Descriptor& file, std::uint64_t offset, std::span<std::byte> bytes,
                            const fs::path& path) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        pread(file.number(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::unexpected(core::system_error(errno, "read", path));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

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
      return fault(ErrorCode::not_found, "it is not in the cache");
    case LookupState::damaged:
    case LookupState::newer:
      return fault(ErrorCode::corrupt_data, found->note);
  }
  return std::move(found->entry);
}

/// An entry's bytes as they go into a bundle.
Result<std::vector<std::byte>> encoded(const Entry& entry, const Key& key) {
  if (belongs_to(entry, key)) return encode(entry);
  return fault(ErrorCode::corrupt_data, "its own description does not name its key");
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
    return fault(ErrorCode::invalid_argument, fmt::format("{} names no file", path.native()));
  }
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (!fs::exists(status) || fs::is_regular_file(status)) return {};
  return fault(
      ErrorCode::invalid_argument,
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

/// An open bundle.
class BundleFile {
 public:
  static Result<BundleFile> open(const fs::path& path) {
    // O_NONBLOCK: opening a pipe must not wait for a writer.
    core::Descriptor file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!file.valid()) {
      Error error = core::system_error(errno, "open", path);
      if (errno == ENOENT) error.code = ErrorCode::not_found;
      return std::unexpected(std::move(error));
    }
    struct stat status{};
    if (fstat(file.number(), &status) != 0)
      return std::unexpected(core::system_error(errno, "inspect", path));
    if (!S_ISREG(status.st_mode)) {
      return fault(ErrorCode::invalid_argument, fmt::format("{} is not a regular file", path.native()));
    }
    return BundleFile(std::move(file), path, static_cast<std::uint64_t>(status.st_size));
  }

  /// At most `count` bytes, fewer where the file ends. Allocates no more than the file has.
  Result<std::vector<std::byte>> read(std::uint64_t offset, std::uint64_t count) const {
    const std::uint64_t there = offset < size_ ? size_ - offset : 0;
    std::vector<std::byte> bytes(std::min(count, there));
    const Result<std::size_t> done = read_at(file_, offset, bytes, path_);
    if (!done) return std::unexpected(done.error());
    bytes.resize(*done);
    return bytes;
  }

  std::uint64_t size() const { return size_; }

 private:
  BundleFile(core::Descriptor file, fs::path path, std::uint64_t size)
      : file_(std::move(file)), path_(std::move(path)), size_(size) {}
  core::Descriptor file_;
  fs::path path_;
  std::uint64_t size_;
};

Result<void> check_signature(const BundleHead& head, const ImportOptions& options) {
  const VerificationKey* trusted = options.trusted;
  if (!head.signature) {
    if (trusted == nullptr && options.unsigned_bundles == Unsigned::allow) return {};
    return fault(ErrorCode::invalid_argument,
                 trusted == nullptr
                     ? std::string("it is not signed, so anybody may have made it; export it with "
                                   "a signing key, or allow unsigned bundles for this import")
                     : fmt::format("it is not signed, and only bundles signed by the key {} are "
                                   "to be trusted; export it with that key",
                                   trusted->fingerprint()));
  }
  // What it claims is for messages only, until the signature is found to be right.
  const auto claimed = [&head] {
    const Result<BundleIndex> index = parse_bundle_index(head.index);
    return index && !index->signer.empty() ? index->signer : std::string("that it does not name");
  };
  if (trusted == nullptr) {
    return fault(
        ErrorCode::invalid_argument,
        fmt::format("it is signed by the key {}; give that public key, if you trust its owner", claimed()));
  }
  Result<void> verified = trusted->verify(head.covered, *head.signature);
  if (verified) return {};
  const std::string signer = claimed();
  if (signer == trusted->fingerprint()) {
    return fault(ErrorCode::corrupt_data,
                 fmt::format("it was changed after it was signed: {}", verified.error().message));
  }
  return fault(
      ErrorCode::invalid_argument,
      fmt::format("it is signed by the key {}, and the trusted one is {}", signer, trusted->fingerprint()));
}

/// The index, once the signature is found to be right and the sizes fill the file.
Result<BundleIndex> check_index(const BundleHead& head, const BundleFile& file,
                                const ImportOptions& options) {
  if (Result<void> trusted = check_signature(head, options); !trusted) {
    return std::unexpected(std::move(trusted.error()));
  }
  Result<BundleIndex> index = parse_bundle_index(head.index);
  if (!index) return index;
  if (index->signer != (options.trusted == nullptr ? "" : options.trusted->fingerprint())) {
    return fault(ErrorCode::corrupt_data, "its index names a signer who did not sign it");
  }
  std::uint64_t expected = head.bytes;  // cannot wrap around: both factors are bounded far below
  for (const BundledEntry& entry : index->entries) expected += entry.bytes;
  if (expected != file.size()) {
    return fault(ErrorCode::corrupt_data,
                 fmt::format("it has {} bytes where its index says {}", file.size(), expected));
  }
  return index;
}

/// One entry, as the index says it is. `number` counts from 1 and is for messages.
Result<Entry> read_entry(const BundleFile& file, std::uint64_t offset, const BundledEntry& expected,
                         std::size_t number) {
  const Result<std::vector<std::byte>> bytes = file.read(offset, expected.bytes);
  if (!bytes) return std::unexpected(bytes.error());
  const auto wrong = [&](ErrorCode code, std::string_view reason) {
    return fault(code, fmt::format("its entry {} ({}) {}", number, expected.key.hex(), reason));
  };
  if (bytes->size() != expected.bytes || digest_of(*bytes) != expected.sha256) {
    return wrong(ErrorCode::corrupt_data, "is not the one that the index describes");
  }
  Result<Entry> entry = decode(*bytes);
  if (!entry && entry.error().code == ErrorCode::corrupt_data) {
    return wrong(ErrorCode::corrupt_data, fmt::format("is damaged: {}", entry.error().message));
  }
  if (!entry) {
    return wrong(ErrorCode::unsupported,
                 fmt::format("is of another version: {}; export the bundle again with "
                             "the version of lutsmith that imports it",
                             entry.error().message));
  }
  if (!belongs_to(*entry, expected.key)) {
    return wrong(ErrorCode::corrupt_data, "does not name that key in its own description");
  }
  return entry;
}

/// Puts an entry where there is none that is intact, and counts it.
Result<void> put_missing(Store& into, const Key& key, const Entry& entry, ImportSummary& summary) {
  const Result<Lookup> found = into.get(key);
  if (found && found->state == LookupState::hit) {
    ++summary.present;
    return {};
  }
  if (found && found->state == LookupState::newer) {
    ++summary.newer;
    return {};
  }
  if (Result<void> put = into.put(key, entry); !put) return put;
  ++summary.imported;
  return {};
}

/// Checks an entry of the bundle or puts it, where it belongs.
Result<void> take(const Key& key, const Entry& entry, bool putting, Store& into, const ImportOptions& options,
                  ImportSummary& summary) {
  Result<bool> elsewhere = options.other != nullptr ? options.other->takes(key, entry) : false;
  if (!elsewhere) return failure(elsewhere);
  if (!putting) return {};
  if (options.other == nullptr || !*elsewhere) return put_missing(into, key, entry, summary);
  Result<void> put = options.other->put(key, entry);
  if (put) ++summary.others;
  return put;
}

Result<ImportSummary> import_checked(const BundleFile& file, Store& into, const ImportOptions& options) {
  const Result<std::vector<std::byte>> start = file.read(0, kBundleStartBytes);
  if (!start) return std::unexpected(start.error());
  const Result<std::size_t> longest = bundle_head_bytes(*start);
  if (!longest) return std::unexpected(longest.error());
  const Result<std::vector<std::byte>> front = file.read(0, *longest);
  if (!front) return std::unexpected(front.error());
  const Result<BundleHead> head = parse_bundle_head(*front);
  if (!head) return std::unexpected(head.error());
  const Result<BundleIndex> index = check_index(*head, file, options);
  if (!index) return std::unexpected(index.error());

  ImportSummary summary{.created = index->created, .signer = index->signer};
  const std::size_t count = index->entries.size();
  for (const bool putting : {false, true}) {
    std::uint64_t offset = head->bytes;
    for (std::size_t i = 0; i < count; ++i) {
      const BundledEntry& expected = index->entries[i];
      Result<Entry> entry = read_entry(file, offset, expected, i + 1);
      Result<void> done =
          entry ? take(expected.key, *entry, putting, into, options, summary) : failure(entry);
      if (!done) {
        if (putting) done.error().message += fmt::format(" ({} of {} entries were done before)", i, count);
        return std::unexpected(std::move(done.error()));
      }
      offset += expected.bytes;
      report(options.progress, (putting ? count : 0) + i + 1, 2 * count);
    }
  }
  return summary;
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
    report(options.progress, ++done, wanted.size());
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

Result<ImportSummary> import_bundle(const fs::path& path, Store& into, const ImportOptions& options) {
  const Result<BundleFile> file = BundleFile::open(path);
  if (!file) return std::unexpected(file.error());
  Result<ImportSummary> summary = import_checked(*file, into, options);
  if (!summary) {
    summary.error().message = fmt::format("cannot import {}: {}", path.native(), summary.error().message);
  }
  return summary;
}

}  // namespace lutsmith::cache
