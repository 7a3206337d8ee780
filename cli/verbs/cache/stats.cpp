#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/output/output.h"
#include "cli/verbs/cache/cache_access.h"
#include "cli/verbs/cache/cache_verbs.h"

namespace lutsmith::cli {
namespace {

/// How many files of a kind, and their bytes.
struct Amount {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;

  void add(std::uint64_t more) {
    ++count;
    bytes += more;
  }
};

struct CacheContents {
  Amount entries;
  Amount damaged;
  Amount other_version;
  std::map<std::string, Amount> by_target;
  std::map<int, Amount> by_bits;
  std::map<std::string, Amount> by_compiler;
};

Result<CacheContents> contents_of(cache::DiskStore& store) {
  const auto listing = list_kernels(store, {});
  if (!listing) return std::unexpected(listing.error());
  CacheContents contents;
  for (const CachedKernel& kernel : listing->kernels) {
    contents.entries.add(kernel.bytes);
    contents.by_target[std::string(kernel.description.spec.target.name())].add(kernel.bytes);
    contents.by_bits[kernel.description.spec.format.bits].add(kernel.bytes);
    contents.by_compiler[kernel.description.provenance.compiler].add(kernel.bytes);
  }
  for (const cache::StoredEntry& entry : listing->damaged) contents.damaged.add(entry.bytes);
  for (const cache::StoredEntry& entry : listing->other_version) contents.other_version.add(entry.bytes);
  return contents;
}

/// What is used beside the cache directory.
struct FurtherPlaces {
  struct System {
    std::string path;
    Result<CacheContents> contents;
  };
  std::vector<System> systems = {};                ///< directories that are only read
  std::optional<Result<std::string>> remote = {};  ///< its URL, or why it cannot be used; nothing: none
  bool remote_read_only = false;
};

FurtherPlaces further_places(const cache::Places& places) {
  FurtherPlaces found;
  for (const SystemDirectory& system : open_system_directories(places)) {
    found.systems.push_back({system.path.string(), system.store ? contents_of(**system.store)
                                                                : std::unexpected(system.store.error())});
  }
  if (!places.remote.url.empty()) found.remote = shown_url(places.remote);
  found.remote_read_only = places.remote.read_only;
  return found;
}

using cli::to_json;

Json to_json(const Amount& amount) { return {{"entries", amount.count}, {"bytes", amount.bytes}}; }

std::string amount_text(const Amount& amount) {
  return fmt::format("{}, {}", counted(amount.count, "kernel"), byte_count(amount.bytes));
}

void print_places(const FurtherPlaces& further) {
  for (const FurtherPlaces::System& system : further.systems) {
    fmt::print("{} (only read): {}\n", system.path,
               system.contents ? amount_text(system.contents->entries)
                               : "not used, since " + system.contents.error().message);
  }
  if (!further.remote) return;
  if (*further.remote) {
    fmt::print("{}: shared{}\n", **further.remote, further.remote_read_only ? ", only read" : "");
  } else {
    fmt::print("not shared: {}\n", further.remote->error().message);
  }
}

void print_contents(const OpenedCache& opened, const CacheContents& contents, const FurtherPlaces& further) {
  fmt::print("{}: {}; {}\n", opened.store->root().string(), amount_text(contents.entries),
             limits_text(opened.places.limits));
  for (const auto& [target, amount] : contents.by_target) {
    fmt::print("  {:<8} {}\n", target, amount_text(amount));
  }
  for (const auto& [bits, amount] : contents.by_bits)
    fmt::print("  {} bits   {}\n", bits, amount_text(amount));
  for (const auto& [compiler, amount] : contents.by_compiler) {
    fmt::print("  made by {}: {}\n", compiler, counted(amount.count, "kernel"));
  }
  if (contents.damaged.count > 0) {
    fmt::print("  damaged  {}; see `lutsmith cache verify`\n", amount_text(contents.damaged));
  }
  if (contents.other_version.count > 0) {
    fmt::print("  of another version of lutsmith: {}\n", amount_text(contents.other_version));
  }
  print_places(further);
}

Json remote_json(const FurtherPlaces& further) {
  if (!further.remote) return nullptr;
  if (!*further.remote) return {{"error", to_json(further.remote->error())}};
  return {{"url", **further.remote}, {"read_only", further.remote_read_only}};
}

Json contents_json(const OpenedCache& opened, const CacheContents& contents, const FurtherPlaces& further) {
  Json json{{"directory", opened.store->root().string()},
            {"entries", contents.entries.count},
            {"bytes", contents.entries.bytes},
            {"damaged", to_json(contents.damaged)},
            {"other_version", to_json(contents.other_version)},
            {"limits", {{"bytes", opened.places.limits.bytes}, {"entries", opened.places.limits.entries}}},
            {"targets", Json::object()},
            {"bits", Json::object()},
            {"compilers", Json::object()},
            {"system_directories", Json::array()},
            {"remote", remote_json(further)}};
  for (const auto& [target, amount] : contents.by_target) json["targets"][target] = to_json(amount);
  for (const auto& [bits, amount] : contents.by_bits) json["bits"][std::to_string(bits)] = to_json(amount);
  for (const auto& [compiler, amount] : contents.by_compiler) json["compilers"][compiler] = to_json(amount);
  for (const FurtherPlaces::System& system : further.systems) {
    Json entry{{"directory", system.path}};
    entry.update(system.contents ? to_json(system.contents->entries)
                                 : Json{{"error", to_json(system.contents.error())}});
    json["system_directories"].push_back(std::move(entry));
  }
  return json;
}

/// Gauges for the node exporter's text file collector; what a service did is in its own counters.
void print_prometheus(const OpenedCache& opened, const CacheContents& contents) {
  const auto gauge = [](const char* name, const char* help, std::uint64_t value) {
    fmt::print("# HELP lutsmith_cache_{0} {1}\n# TYPE lutsmith_cache_{0} gauge\nlutsmith_cache_{0} {2}\n",
               name, help, value);
  };
  gauge("entries", "Kernels in the cache directory.", contents.entries.count);
  gauge("bytes", "Bytes of them.", contents.entries.bytes);
  gauge("damaged_entries", "Damaged entries, which are made anew when needed.", contents.damaged.count);
  gauge("other_version_entries", "Entries of another version of lutsmith.", contents.other_version.count);
  gauge("limit_entries", "Kernels the directory may grow to.", opened.places.limits.entries);
  gauge("limit_bytes", "Bytes the directory may grow to.", opened.places.limits.bytes);
}

Result<ExitCode> run_stats(bool prometheus, bool json) {
  if (prometheus && json) {
    return std::unexpected(Error{ErrorCode::invalid_argument, "give either --json or --prometheus", {}});
  }
  const auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  const auto contents = contents_of(*opened->store);
  if (!contents) return std::unexpected(contents.error());
  if (prometheus) {
    print_prometheus(*opened, *contents);
    return ExitCode::success;
  }
  const FurtherPlaces further = further_places(opened->places);
  if (json) {
    print_json(contents_json(*opened, *contents, further));
  } else {
    print_contents(*opened, *contents, further);
  }
  return ExitCode::success;
}

}  // namespace

void add_cache_stats(CLI::App& app, Context& context) {
  const auto prometheus = std::make_shared<bool>(false);
  CLI::App& verb = add_verb(
      app, context,
      {.name = "stats",
       .description = "Tell how many kernels there are, for which targets, and how much room is left",
       .examples = "  lutsmith cache stats\n"
                   "  lutsmith cache stats --json\n"
                   "  lutsmith cache stats --prometheus > /var/lib/node_exporter/lutsmith.prom\n"
                   "What a running service did is in Service::statistics() and to_prometheus().",
       .work = [prometheus, &context] { return run_stats(*prometheus, context.json); }});
  verb.add_flag("--prometheus", *prometheus, "Print gauges in Prometheus' text format");
}

}  // namespace lutsmith::cli
