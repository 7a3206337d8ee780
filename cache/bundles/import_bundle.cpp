#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "cache/bundles/bundle.h"
#include "cache/bundles/bundled_bytes.h"
#include "core/descriptor.h"
#include "core/result.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;

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
      return refuse(fmt::format("{} is not a regular file", path.native()));
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
    return refuse(trusted == nullptr
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
    return refuse(
        fmt::format("it is signed by the key {}; give that public key, if you trust its owner", claimed()));
  }
  Result<void> verified = trusted->verify(head.covered, *head.signature);
  if (verified) return {};
  const std::string signer = claimed();
  if (signer == trusted->fingerprint()) {
    return corrupt(fmt::format("it was changed after it was signed: {}", verified.error().message));
  }
  return refuse(
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
    return corrupt("its index names a signer who did not sign it");
  }
  std::uint64_t expected = head.bytes;  // cannot wrap around: both factors are bounded far below
  for (const BundledEntry& entry : index->entries) expected += entry.bytes;
  if (expected != file.size()) {
    return corrupt(fmt::format("it has {} bytes where its index says {}", file.size(), expected));
  }
  return index;
}

/// One entry, as the index says it is. `number` counts from 1 and is for messages.
Result<Entry> read_entry(const BundleFile& file, std::uint64_t offset, const BundledEntry& expected,
                         std::size_t number) {
  const Result<std::vector<std::byte>> bytes = file.read(offset, expected.bytes);
  if (!bytes) return std::unexpected(bytes.error());
  const auto wrong = [&](ErrorCode code, std::string_view reason) {
    return std::unexpected(
        Error{code, fmt::format("its entry {} ({}) {}", number, expected.key.hex(), reason), ""});
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
      if (options.progress) options.progress((putting ? count : 0) + i + 1, 2 * count);
    }
  }
  return summary;
}

}  // namespace

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
