#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>

#include "cache_access.h"
#include "cache_verbs.h"
#include "output.h"

namespace lutsmith::tools {
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
  Amount unreadable;
  std::map<std::string, Amount> by_target;
  std::map<int, Amount> by_bits;
};

Result<CacheContents> contents_of(cache::DiskStore& store) {
  const auto listing = list_kernels(store, {});
  if (!listing) return std::unexpected(listing.error());
  CacheContents contents;
  for (const CachedKernel& kernel : listing->kernels) {
    contents.entries.add(kernel.bytes);
    contents.by_target[std::string(kernel.description.spec.target.name())].add(kernel.bytes);
    contents.by_bits[kernel.description.spec.bits].add(kernel.bytes);
  }
  for (const cache::StoredEntry& entry : listing->unreadable) contents.unreadable.add(entry.bytes);
  return contents;
}

/// A directory that is only read.
struct SystemDirectory {
  std::string path;
  Result<CacheContents> contents;
};

std::vector<SystemDirectory> system_directories(const cache::Places& places) {
  std::vector<SystemDirectory> found;
  for (const std::filesystem::path& path : places.system) {
    auto store = cache::DiskStore::open(path, {.access = cache::Access::read_only});
    found.push_back({path.string(),
                     store ? contents_of(**store) : Result<CacheContents>(std::unexpected(store.error()))});
  }
  return found;
}

Json to_json(const Amount& amount) { return {{"entries", amount.count}, {"bytes", amount.bytes}}; }

std::string amount_text(const Amount& amount) {
  return fmt::format("{} kernels, {}", amount.count, byte_count(static_cast<double>(amount.bytes)));
}

std::string limits_text(const CacheLimits& limits) {
  return fmt::format("at most {} and {} kernels", byte_count(static_cast<double>(limits.bytes)),
                     limits.entries);
}

void print_contents(const OpenedCache& opened, const CacheContents& contents,
                    const std::vector<SystemDirectory>& systems) {
  fmt::print("{}: {}; {}\n", opened.store->root().string(), amount_text(contents.entries),
             limits_text(opened.places.limits));
  for (const auto& [target, amount] : contents.by_target)
    fmt::print("  {:<8} {}\n", target, amount_text(amount));
  for (const auto& [bits, amount] : contents.by_bits)
    fmt::print("  {} bits   {}\n", bits, amount_text(amount));
  if (contents.unreadable.count > 0) {
    fmt::print("  {} of another version or damaged; see `lutsmith cache verify`\n",
               contents.unreadable.count);
  }
  for (const SystemDirectory& system : systems) {
    fmt::print("{} (only read): {}\n", system.path,
               system.contents ? amount_text(system.contents->entries) : system.contents.error().message);
  }
  if (!opened.places.remote.url.empty()) {
    fmt::print("{}: shared{}\n", opened.places.remote.url,
               opened.places.remote.read_only ? ", only read" : "");
  }
}

Json contents_json(const OpenedCache& opened, const CacheContents& contents,
                   const std::vector<SystemDirectory>& systems) {
  Json json{{"directory", opened.store->root().string()},
            {"entries", contents.entries.count},
            {"bytes", contents.entries.bytes},
            {"unreadable", contents.unreadable.count},
            {"limits", {{"bytes", opened.places.limits.bytes}, {"entries", opened.places.limits.entries}}},
            {"targets", Json::object()},
            {"bits", Json::object()},
            {"system_directories", Json::array()},
            {"remote", opened.places.remote.url}};
  for (const auto& [target, amount] : contents.by_target) json["targets"][target] = to_json(amount);
  for (const auto& [bits, amount] : contents.by_bits) json["bits"][std::to_string(bits)] = to_json(amount);
  for (const SystemDirectory& system : systems) {
    Json entry = system.contents ? to_json(system.contents->entries)
                                 : Json{{"error", tools::to_json(system.contents.error())}};
    entry["directory"] = system.path;
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
  gauge("unreadable_entries", "Entries that are damaged or of another version.", contents.unreadable.count);
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
  const std::vector<SystemDirectory> systems = system_directories(opened->places);
  if (json) {
    print_json(contents_json(*opened, *contents, systems));
  } else {
    print_contents(*opened, *contents, systems);
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

}  // namespace lutsmith::tools
