#include <fmt/format.h>

#include <charconv>
#include <memory>
#include <string>
#include <system_error>

#include "cache/stores/disk_pruning.h"
#include "cli/output/output.h"
#include "cli/verbs/cache/cache_access.h"
#include "cli/verbs/cache/cache_verbs.h"

namespace lutsmith::cli {
namespace {

struct PruneArguments {
  std::string max_bytes;
  std::string max_entries;
};

/// An option that is given as text, since CLI11 takes -1 for the largest of unsigned numbers.
Result<std::uint64_t> parse_count(const std::string& text) {
  std::uint64_t count = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, count);
  if (parsed.ec == std::errc{} && parsed.ptr == end) return count;
  return std::unexpected(
      Error{ErrorCode::invalid_argument,
            fmt::format("max-entries: '{}' is no count; allowed: whole numbers from 0 on", text),
            {}});
}

void print_pruned(const std::string& directory, const cache::Pruned& pruned, bool json) {
  if (json) {
    print_json({{"directory", directory},
                {"removed", pruned.entries},
                {"removed_bytes", pruned.bytes},
                {"removed_temporary_files", pruned.temporary},
                {"removed_damaged", pruned.damaged},
                {"entries", pruned.entries_left},
                {"bytes", pruned.bytes_left}});
    return;
  }
  fmt::print("{}: {} removed ({}), {} left ({})\n", directory, counted(pruned.entries, "kernel"),
             byte_count(pruned.bytes), pruned.entries_left, byte_count(pruned.bytes_left));
  if (pruned.temporary > 0) {
    fmt::print("{} of processes that died removed\n", counted(pruned.temporary, "temporary file"));
  }
  if (pruned.damaged > 0) {
    fmt::print("{} that had been put aside removed\n", counted(pruned.damaged, "damaged kernel"));
  }
}

Result<ExitCode> prune_to(const OpenedCache& opened, const cache::PruneOptions& options, bool json) {
  const auto pruned = cache::prune_directory(opened.store->root(), options);
  if (!pruned) return std::unexpected(pruned.error());
  const std::string directory = opened.store->root().string();
  print_pruned(directory, *pruned, json);
  if (pruned->entries_left <= options.limits.entries && pruned->bytes_left <= options.limits.bytes) {
    return ExitCode::success;
  }
  print_warning(
      fmt::format("{} still has more than {}: its files could not be removed; is it yours to write?",
                  directory, limits_text(options.limits)));
  return ExitCode::work_failed;
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
  if (!arguments.max_entries.empty()) {
    const auto entries = parse_count(arguments.max_entries);
    if (!entries) return std::unexpected(entries.error());
    limits.entries = *entries;
  }
  return prune_to(*opened, {.limits = limits}, json);
}

Result<ExitCode> run_clear(bool json) {
  const auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  // What was put aside goes too: whoever clears a cache has no more questions. A temporary file may be being
  // written just now.
  return prune_to(*opened, {.limits = {.bytes = 0, .entries = 0}, .damaged_age = {}}, json);
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

}  // namespace lutsmith::cli
