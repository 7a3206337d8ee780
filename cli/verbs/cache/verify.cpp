#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/entry.h"
#include "cli/open_service.h"
#include "cli/output/output.h"
#include "cli/output/progress.h"
#include "cli/verbs/cache/cache_access.h"
#include "cli/verbs/cache/cache_verbs.h"
#include "runtime/cubin.h"

namespace lutsmith::cli {
namespace {

/// An entry that no request could use.
struct BadEntry {
  cache::Key key;
  Error error;
  std::optional<Description> described;  ///< what it was, where that can still be told
  std::string repair;                    ///< what was done about it
  bool repaired = false;
};

/// What was looked at.
struct Checked {
  std::size_t entries = 0;
  std::size_t other_version = 0;  ///< left alone, as another version of lutsmith may use them
  std::vector<BadEntry> bad;
};

/// Errors as read_kernel's, and corrupt_data for a binary that cannot be used.
Result<void> check(cache::DiskStore& store, const cache::Key& key) {
  cache::Entry entry;
  const auto description = read_kernel(store, key, entry);
  if (!description) return std::unexpected(description.error());
  return check_cubin(entry.payload, description->spec.target, description->kernel_name);
}

/// What a damaged entry was; a hint, which is good enough to compile it again: its key must come out.
std::optional<Description> salvage(const cache::DiskStore& store, const cache::Key& key) {
  std::ifstream file(store.path_of(key), std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  const auto description = read_description(cache::salvage_manifest(std::as_bytes(std::span(bytes))));
  if (!description || description->key != key.hex()) return std::nullopt;
  return *description;
}

Result<Checked> check_all(cache::DiskStore& store) {
  std::vector<cache::Key> keys;
  const auto scanned = store.scan([&](const cache::StoredEntry& entry) {
    keys.push_back(entry.key);
    return true;
  });
  if (!scanned) return std::unexpected(scanned.error());
  Checked checked;
  for (const cache::Key& key : keys) {
    const auto good = check(store, key);
    if (!good && good.error().code == ErrorCode::not_found) continue;  // gone by now
    ++checked.entries;
    if (good) continue;
    if (good.error().code == ErrorCode::unsupported) {
      ++checked.other_version;
    } else {
      checked.bad.push_back(
          {.key = key, .error = good.error(), .described = salvage(store, key), .repair = {}});
    }
  }
  return checked;
}

/// Gets a bad entry out of the way.
Result<void> take_away(cache::DiskStore& store, const cache::Key& key) {
  // Looking puts a damaged entry aside; one whose contents are wrong is still there after it.
  static_cast<void>(store.get(key));
  const Result<bool> removed = store.remove(key);
  if (!removed) return std::unexpected(removed.error());
  return {};
}

/// Makes what is described again: what was done, or why that failed.
Result<std::string> make_anew(Service& service, const cache::DiskStore& store, const Description& described) {
  const auto compiled = service.compile(described.spec, described.schedule);
  if (!compiled) return std::unexpected(compiled.error());
  if (compiled->artifact->key != described.key) {
    return "removed: this version of lutsmith or its compiler makes another kernel in its place";
  }
  const auto key = cache::Key::parse(described.key);
  const bool kept = key && std::filesystem::exists(store.path_of(*key));
  if (compiled->origin == Origin::disk && !kept) return "removed: a system directory has it too";
  if (!kept) {
    return std::unexpected(
        Error{ErrorCode::io_error, fmt::format("{} did not keep it", store.root().native()), {}});
  }
  return compiled->origin == Origin::remote ? "fetched from the remote cache" : "compiled anew";
}

/// Gets the bad ones out of the way, and makes anew what can be told.
Result<void> repair(std::vector<BadEntry>& bad) {
  const auto opened = open_cache(cache::Access::read_write);
  if (!opened) return std::unexpected(opened.error());
  for (BadEntry& entry : bad) {  // all of them first: what is made in the place of one may be another
    const auto away = take_away(*opened->store, entry.key);
    entry.repaired = away.has_value();
    entry.repair = away ? "removed; the next request for it compiles it" : away.error().message;
  }
  std::optional<Result<Service>> service;  // opened only where there is something to compile
  Progress progress(bad.size());
  for (BadEntry& entry : bad) {
    if (entry.repaired && entry.described) {
      if (!service) service = open_service({.compile = CompilePolicy::when_needed});
      const auto made = *service ? make_anew(**service, *opened->store, *entry.described)
                                 : Result<std::string>(std::unexpected(service->error()));
      entry.repaired = made.has_value();
      entry.repair = made ? *made : "removed, but not made anew: " + made.error().message;
    }
    progress.advance(entry.key.hex().substr(0, 12) + ": " + entry.repair);
  }
  return {};
}

void print_report(const std::string& directory, const Checked& checked) {
  for (const BadEntry& entry : checked.bad) {
    fmt::print("{}  {}\n", entry.key.hex().substr(0, 12), entry.error.message);
    if (entry.described) fmt::print("  it was {}\n", describe(entry.described->spec));
    if (!entry.repair.empty()) fmt::print("  {}\n", entry.repair);
  }
  const auto repaired = std::ranges::count_if(checked.bad, &BadEntry::repaired);
  fmt::print("{}: {} checked, {} bad{}\n", directory, counted(checked.entries, "kernel"), checked.bad.size(),
             repaired > 0 ? fmt::format(", {} of them repaired", repaired) : "");
  if (checked.other_version > 0) {
    fmt::print("{} of another version of lutsmith left alone\n", counted(checked.other_version, "kernel"));
  }
  if (!checked.bad.empty() && checked.bad.front().repair.empty()) {
    fmt::print("no request ever uses a bad one; `lutsmith cache verify --repair` makes them anew\n");
  }
}

Json report_json(const std::string& directory, const Checked& checked) {
  Json entries = Json::array();
  for (const BadEntry& entry : checked.bad) {
    Json json{{"key", entry.key.hex()}, {"error", to_json(entry.error)}};
    if (entry.described) json["kernel"] = describe(entry.described->spec);
    if (!entry.repair.empty()) json["repair"] = entry.repair;
    if (!entry.repair.empty()) json["repaired"] = entry.repaired;
    entries.push_back(std::move(json));
  }
  return {{"directory", directory},
          {"checked", checked.entries},
          {"other_version", checked.other_version},
          {"bad", entries}};
}

Result<ExitCode> run_verify(bool with_repair, bool json) {
  const auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  auto checked = check_all(*opened->store);
  if (!checked) return std::unexpected(checked.error());
  if (with_repair && !checked->bad.empty()) {
    const auto repaired = repair(checked->bad);
    if (!repaired) return std::unexpected(repaired.error());
  }
  const std::string directory = opened->store->root().string();
  if (json) {
    print_json(report_json(directory, *checked));
  } else {
    print_report(directory, *checked);
  }
  return std::ranges::all_of(checked->bad, &BadEntry::repaired) ? ExitCode::success : ExitCode::work_failed;
}

}  // namespace

void add_cache_verify(CLI::App& app, Context& context) {
  const auto with_repair = std::make_shared<bool>(false);
  CLI::App& verb = add_verb(
      app, context,
      {.name = "verify",
       .description = "Check every kernel in the cache directory: digest, manifest, binary",
       .examples = "  lutsmith cache verify\n"
                   "  lutsmith cache verify --repair\n"
                   "Exit code 1 where a kernel is bad and was not repaired. Requests check what they load\n"
                   "too, so a bad kernel costs a compile and nothing else.",
       .work = [with_repair, &context] { return run_verify(*with_repair, context.json); }});
  verb.add_flag("--repair", *with_repair, "Put bad kernels aside and compile them anew");
}

}  // namespace lutsmith::cli
