#pragma once

#include "cli/command.h"

namespace lutsmith::cli {

// The verbs of `lutsmith cache`, by the file that has them.
void add_cache_stats(CLI::App& app, Context& context);
void add_cache_ls(CLI::App& app, Context& context);
void add_cache_show(CLI::App& app, Context& context);
void add_cache_verify(CLI::App& app, Context& context);
void add_cache_prune(CLI::App& app, Context& context);
void add_cache_clear(CLI::App& app, Context& context);
void add_cache_export(CLI::App& app, Context& context);
void add_cache_import(CLI::App& app, Context& context);

}  // namespace lutsmith::cli
