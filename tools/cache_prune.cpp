#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>

#include "cache/disk_pruning.h"
#include "cache_access.h"
#include "cache_verbs.h"
#include "output.h"

namespace lutsmith::tools {
namespace {

struct PruneArguments {
  std::string max_bytes;
  std::optional<std::uint64_t> max_entries;
};

Result<ExitCode> prune_to(const OpenedCache& opened, const CacheLimits& limits, bool json) {
  const auto pruned = cache::prune_directory(opened.store->root(), {.limits = limits});
  if (!pruned) return std::unexpected(pruned.error());
  const std::string directory = opened.store->root().string();
  if (json) {
    print_json({{"directory", directory},
                {"removed", pruned->entries},
                {"removed_bytes", pruned->bytes},
                {"removed_temporary_files", pruned->temporary},
                {"removed_damaged", pruned->damaged},
                {"entries", pruned->entries_left},
                {"bytes", pruned->bytes_left}});
    return ExitCode::success;
  }
  fmt::print("{}: {} kernels removed ({}), {} left ({})\n", directory, pruned->entries,
             byte_count(static_cast<double>(pruned->bytes)), pruned->entries_left,
             byte_count(static_cast<double>(pruned->bytes_left)));
  if (pruned->temporary + pruned->damaged > 0) {
    fmt::print("{} files left by processes that died and {} damaged kernels removed\n", pruned->temporary,
               pruned->damaged);
  }
  return ExitCode::success;
}

Result<ExitCode> run_prune(const PruneArguments& arguments, bool json) {
  const auto opened = open_cache(cache::Access::read_only);  // removing needs no more than the right to
  if (!opened) return std::unexpected(opened.error());
  CacheLimits limits = opened->places.limits;
  if (!arguments.max_bytes.empty()) {
    const auto bytes = cache::parse_byte_size(arguments.max_bytes);
    if (!bytes) {
      return std::unexpected(Error{ErrorCode::invalid_argument, "max-bytes: " + bytes.error().message, {}});
    }
    limits.bytes = *bytes;
  }
  if (arguments.max_entries) limits.entries = *arguments.max_entries;
  return prune_to(*opened, limits, json);
}

Result<ExitCode> run_clear(bool json) {
  const auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  return prune_to(*opened, {.bytes = 0, .entries = 0}, json);
}

}  // namespace

void add_cache_prune(CLI::App& app, Context& context) {
  const auto arguments = std::make_shared<PruneArguments>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "prune",
       .description = "Remove the kernels used longest ago until the limits hold",
       .examples = "  lutsmith cache prune\n"
                   "  lutsmith cache prune --max-bytes 500M --max-entries 10000\n"
                   "Services prune by themselves in the background. Files that the cache did not write are\n"
                   "never touched.",
       .work = [arguments, &context] { return run_prune(*arguments, context.json); }});
  verb.add_option("--max-bytes", arguments->max_bytes,
                  "Bytes to keep at most, such as 500M or 4G [LUTSMITH_CACHE_MAX_BYTES, else 4G]")
      ->type_name("SIZE");
  verb.add_option("--max-entries", arguments->max_entries,
                  "Kernels to keep at most [LUTSMITH_CACHE_MAX_ENTRIES, else 100000]")
      ->type_name("INT");
}

void add_cache_clear(CLI::App& app, Context& context) {
  add_verb(app, context,
           {.name = "clear",
            .description = "Remove every kernel from the cache directory",
            .examples =
                "  lutsmith cache clear\n"
                "Running programs are not disturbed. Files that the cache did not write are never touched.",
            .work = [&context] { return run_clear(context.json); }});
}

}  // namespace lutsmith::tools
