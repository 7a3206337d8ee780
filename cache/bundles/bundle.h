#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cache/bundles/bundle_format.h"
#include "cache/bundles/signing.h"
#include "cache/entry.h"
#include "cache/key.h"
#include "cache/stores/store.h"
#include "lutsmith/error.h"

namespace lutsmith::cache {

/// Told after every step how many of how many are done.
using BundleProgress = std::function<void(std::size_t done, std::size_t total)>;

/// An entry that is kept elsewhere than in a store.
struct OtherEntry {
  Key key;
  Entry entry;
};

struct ExportOptions {
  const SigningKey* signer = nullptr;  ///< null: the bundle is not signed
  std::chrono::system_clock::time_point created = std::chrono::system_clock::now();
  std::span<const OtherEntry> others = {};  ///< go in beside those of the store
  BundleProgress progress = {};             ///< a step for each key
};

/// An entry that was asked for and could not be had.
struct LeftOut {
  Key key;
  std::string reason;
};

struct ExportSummary {
  std::size_t entries = 0;  ///< of the store
  std::size_t others = 0;
  std::uint64_t bytes = 0;  ///< of the whole file
  std::vector<LeftOut> left_out;
};

/// The keys of all entries in a store, for export_bundle.
Result<std::vector<Key>> all_keys(Store& store);

/// Writes entries of a store into one file, see bundle_format.h, that appears complete or not at all. Keys
/// may come in any order and more than once; the same entries, time and signer give the same bytes. Holds one
/// entry in memory at a time, and needs the space of the entries twice beside `path` while it runs. The file
/// is its owner's alone (0600). Errors: not_found where none of the entries could be had, invalid_argument
/// where `path` is taken by something that is not a regular file, io_error where the file cannot be written.
Result<ExportSummary> export_bundle(Store& from, std::span<const Key> keys, const std::filesystem::path& path,
                                    const ExportOptions& options = {});

/// What to do with bundles nobody signed. Their digests find damage, but whoever made one can run his kernels
/// wherever it is imported.
enum class Unsigned { refuse, allow };

/// Where entries go that are not for the store.
struct OtherPlace {
  /// Whether an entry, which names `key` itself, goes there. An error where it does and cannot be used: then
  /// nothing of the bundle is put.
  std::function<Result<bool>(const Key& key, const Entry& entry)> takes;
  std::function<Result<void>(const Key& key, const Entry& entry)> put;
};

struct ImportOptions {
  const VerificationKey* trusted = nullptr;      ///< whose bundles are taken; with it, only signed ones are
  Unsigned unsigned_bundles = Unsigned::refuse;  ///< counts where no key is trusted
  const OtherPlace* other = nullptr;             ///< null: all entries are for the store
  BundleProgress progress = {};                  ///< two steps for each entry: all checked, then all put
};

struct ImportSummary {
  std::size_t imported = 0;
  std::size_t present = 0;  ///< there already and intact; left alone
  std::size_t newer = 0;    ///< there already, written by a newer version; left alone
  std::size_t others = 0;   ///< handed to the other place
  std::string created;      ///< as in BundleIndex
  std::string signer;       ///< as in BundleIndex
};

/// Puts the entries of a bundle into a store. Checks all of it first: where anything is wrong, nothing is
/// put; and each entry once more as it is put. Holds one entry in memory at a time. Errors: invalid_argument
/// where the signature is missing or another's than the trusted key's, corrupt_data for a bundle or an entry
/// that is damaged or was changed, unsupported for a newer version of either, and those of `Store::put`
/// and of the other place, after which the import can be run again and goes on from there.
Result<ImportSummary> import_bundle(const std::filesystem::path& path, Store& into,
                                    const ImportOptions& options = {});

}  // namespace lutsmith::cache
