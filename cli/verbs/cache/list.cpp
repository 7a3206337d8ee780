#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/output/kernel_json.h"
#include "cli/output/output.h"
#include "cli/verbs/cache/cache_access.h"
#include "cli/verbs/cache/cache_verbs.h"

namespace lutsmith::cli {
namespace {

Json kernel_json(const CachedKernel& kernel) {
  return {{"key", kernel.key.hex()},
          {"bytes", kernel.bytes},
          {"last_used", time_json(kernel.last_used)},
          {"spec", to_json(kernel.description.spec)},
          {"schedule", to_json(kernel.description.schedule)},
          {"compiler", kernel.description.provenance.compiler}};
}

/// A directory that is only read.
struct SystemListing {
  std::filesystem::path path;
  Result<CacheListing> listing;
};

Json listing_json(const std::string& directory, const CacheListing& listing) {
  Json kernels = Json::array();
  for (const CachedKernel& kernel : listing.kernels) kernels.push_back(kernel_json(kernel));
  return {{"directory", directory},
          {"kernels", kernels},
          {"damaged", listing.damaged.size()},
          {"other_version", listing.other_version.size()}};
}

Json listings_json(const std::string& directory, const CacheListing& own,
                   const std::vector<SystemListing>& systems) {
  Json json = listing_json(directory, own);
  json["system_directories"] = Json::array();
  for (const auto& [path, listing] : systems) {
    json["system_directories"].push_back(
        listing ? listing_json(path.string(), *listing)
                : Json{{"directory", path.string()}, {"error", to_json(listing.error())}});
  }
  return json;
}

void print_listing(const std::string& directory, const CacheListing& listing) {
  using enum TextTable::Align;
  TextTable table({{"key", left}, {"kernel", left}, {"size"}, {"last used", left}, {"schedule", left}});
  for (const CachedKernel& kernel : listing.kernels) {
    table.add_row({kernel.key.hex().substr(0, 12), describe(kernel.description.spec),
                   byte_count(kernel.bytes), time_text(kernel.last_used),
                   describe(kernel.description.schedule)});
  }
  table.print();
  if (!listing.damaged.empty()) {
    print_warning(fmt::format("{}: {} damaged; see `lutsmith cache verify`", directory,
                              counted(listing.damaged.size(), "kernel")));
  }
  if (!listing.other_version.empty()) {
    print_warning(fmt::format("{}: {} of another version of lutsmith", directory,
                              counted(listing.other_version.size(), "kernel")));
  }
}

void print_systems(const std::vector<SystemListing>& systems) {
  for (const auto& [path, listing] : systems) {
    if (!listing) {
      print_warning(listing.error().message + "; LUTSMITH_CACHE_PATH names it");
      continue;
    }
    fmt::print("\n{} (only read):{}\n", path.string(), listing->kernels.empty() ? " no kernels" : "");
    print_listing(path.string(), *listing);
  }
}

Result<ExitCode> run_ls(const std::string& target, bool json) {
  std::vector<Target> targets;
  if (!target.empty()) {
    auto parsed = parse_targets(target);
    if (!parsed) return std::unexpected(parsed.error());
    targets = *std::move(parsed);
  }
  const auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  const auto own = list_kernels(*opened->store, targets);
  if (!own) return std::unexpected(own.error());
  std::vector<SystemListing> systems;
  for (const SystemDirectory& system : open_system_directories(opened->places)) {
    systems.push_back({system.path, system.store ? list_kernels(**system.store, targets)
                                                 : std::unexpected(system.store.error())});
  }
  const std::string directory = opened->store->root().string();
  if (json) {
    print_json(listings_json(directory, *own, systems));
    return ExitCode::success;
  }
  if (!systems.empty() || own->kernels.empty()) {
    fmt::print("{}:{}\n", directory,
               own->kernels.empty() ? fmt::format(" no kernels{}; fill it by `lutsmith warm`",
                                                  target.empty() ? "" : " for " + target)
                                    : "");
  }
  print_listing(directory, *own);
  print_systems(systems);
  return ExitCode::success;
}

}  // namespace

void add_cache_ls(CLI::App& app, Context& context) {
  const auto target = std::make_shared<std::string>();
  CLI::App& verb =
      add_verb(app, context,
               {.name = "ls",
                .description = "List the kernels in the cache directory and in those that are only read, "
                               "each with those used last first",
                .examples = "  lutsmith cache ls\n"
                            "  lutsmith cache ls --target sm_80,sm_90a --json",
                .work = [target, &context] { return run_ls(*target, context.json); }});
  verb.add_option("--target", *target, "Only kernels for these GPU architectures")->type_name("LIST");
}

}  // namespace lutsmith::cli
