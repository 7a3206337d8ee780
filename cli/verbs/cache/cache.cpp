#include "cli/command.h"
#include "cli/verbs/cache/cache_verbs.h"

namespace lutsmith::cli {

void add_cache(CLI::App& app, Context& context) {
  CLI::App* cache =
      app.add_subcommand("cache", "Look after the kernel cache: what is in it, repair, limits, bundles");
  cache->require_subcommand(1);
  cache->footer(
      "LUTSMITH_CACHE_DIR names the directory, LUTSMITH_CACHE_PATH further ones that are only read,\n"
      "LUTSMITH_CACHE_MAX_BYTES and LUTSMITH_CACHE_MAX_ENTRIES its limits, LUTSMITH_REMOTE_CACHE a server.");
  add_cache_stats(*cache, context);
  add_cache_ls(*cache, context);
  add_cache_show(*cache, context);
  add_cache_verify(*cache, context);
  add_cache_prune(*cache, context);
  add_cache_clear(*cache, context);
  add_cache_export(*cache, context);
  add_cache_import(*cache, context);
}

}  // namespace lutsmith::cli
