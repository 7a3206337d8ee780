#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>

#include "cache/entry.h"
#include "cache_access.h"
#include "cache_verbs.h"
#include "open_service.h"
#include "output.h"
#include "progress.h"
#include "runtime/cubin.h"

namespace lutsmith::tools {
namespace {

/// An entry that no request could use.
struct BadEntry {
  cache::Key key;
  Error error;
  std::optional<Description> described;  ///< what it was, where that can still be told
  std::string repair;                    ///< what was done about it
  bool repaired = false;
};

/// Nothing where the entry is good, or is gone by now, or is a newer version's.
std::optional<Error> check(cache::DiskStore& store, const cache::Key& key) {
  cache::Entry entry;
  const auto description = read_kernel(store, key, entry);
  if (!description) {
    const ErrorCode code = description.error().code;
    if (code == ErrorCode::not_found || code == ErrorCode::unsupported) return std::nullopt;
    return description.error();
  }
  const auto usable = check_cubin(entry.payload, description->spec.target, description->kernel_name);
  if (!usable) return usable.error();
  return std::nullopt;
}

/// What a damaged entry was; a hint, which is good enough to compile it again: its key must come out.
std::optional<Description> salvage(const cache::DiskStore& store, const cache::Key& key) {
  std::ifstream file(store.path_of(key), std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  const auto description = read_description(cache::salvage_manifest(std::as_bytes(std::span(bytes))));
  if (!description || description->key != key.hex()) return std::nullopt;
  return *description;
}

Result<std::vector<BadEntry>> find_bad(cache::DiskStore& store, std::size_t& checked) {
  std::vector<cache::Key> keys;
  const auto scanned = store.scan([&](const cache::StoredEntry& entry) {
    keys.push_back(entry.key);
    return true;
  });
  if (!scanned) return std::unexpected(scanned.error());
  std::vector<BadEntry> bad;
  for (const cache::Key& key : keys) {
    if (auto error = check(store, key)) {
      bad.push_back({.key = key, .error = *std::move(error), .described = salvage(store, key), .repair = {}});
    }
  }
  checked = keys.size();
  return bad;
}

/// Puts the bad ones aside or removes them, and compiles anew what can be told. A service is opened only
/// where there is something to compile.
Result<void> repair(std::vector<BadEntry>& bad) {
  const auto opened = open_cache(cache::Access::read_write);
  if (!opened) return std::unexpected(opened.error());
  std::optional<Service> service;
  Progress progress(bad.size());
  for (BadEntry& entry : bad) {
    // Looking puts a damaged entry aside; one whose contents are wrong is still there after it.
    static_cast<void>(opened->store->get(entry.key));
    static_cast<void>(opened->store->remove(entry.key));
    entry.repaired = true;
    entry.repair = "put aside; the next request for it compiles it";
    if (entry.described) {
      if (!service) {
        auto made = open_service();
        if (!made) return std::unexpected(made.error());
        service = *std::move(made);
      }
      const auto compiled = service->compile(entry.described->spec, entry.described->schedule);
      if (compiled && compiled->artifact->key == entry.key.hex()) {
        entry.repair = compiled->origin == Origin::compiled ? "compiled anew" : "fetched anew";
      } else if (compiled) {
        entry.repair = "removed: this version of lutsmith or its compiler makes another kernel in its place";
      } else {
        entry.repaired = false;
        entry.repair = compiled.error().message;
      }
    }
    progress.advance(entry.key.hex().substr(0, 12) + ": " + entry.repair);
  }
  return {};
}

void print_report(const std::string& directory, std::size_t checked, const std::vector<BadEntry>& bad) {
  for (const BadEntry& entry : bad) {
    fmt::print("{}  {}\n", entry.key.hex().substr(0, 12), entry.error.message);
    if (entry.described) fmt::print("  it was {}\n", describe(entry.described->spec));
    if (!entry.repair.empty()) fmt::print("  {}\n", entry.repair);
  }
  fmt::print("{}: {} kernels checked, {} bad\n", directory, checked, bad.size());
  if (!bad.empty() && bad.front().repair.empty()) {
    fmt::print("no request ever uses a bad one; `lutsmith cache verify --repair` makes them anew\n");
  }
}

Json report_json(const std::string& directory, std::size_t checked, const std::vector<BadEntry>& bad) {
  Json entries = Json::array();
  for (const BadEntry& entry : bad) {
    Json json{{"key", entry.key.hex()}, {"error", to_json(entry.error)}};
    if (entry.described) json["kernel"] = describe(entry.described->spec);
    if (!entry.repair.empty()) json["repair"] = entry.repair;
    if (!entry.repair.empty()) json["repaired"] = entry.repaired;
    entries.push_back(std::move(json));
  }
  return {{"directory", directory}, {"checked", checked}, {"bad", entries}};
}

Result<ExitCode> run_verify(bool with_repair, bool json) {
  const auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  std::size_t checked = 0;
  auto bad = find_bad(*opened->store, checked);
  if (!bad) return std::unexpected(bad.error());
  if (with_repair && !bad->empty()) {
    const auto repaired = repair(*bad);
    if (!repaired) return std::unexpected(repaired.error());
  }
  const std::string directory = opened->store->root().string();
  if (json) {
    print_json(report_json(directory, checked, *bad));
  } else {
    print_report(directory, checked, *bad);
  }
  return std::ranges::all_of(*bad, &BadEntry::repaired) ? ExitCode::success : ExitCode::work_failed;
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

}  // namespace lutsmith::tools
