#include "cli/command.h"

#include <utility>

namespace lutsmith::cli {

CLI::App& add_verb(CLI::App& app, Context& context, Verb verb) {
  CLI::App* subcommand = app.add_subcommand(verb.name, verb.description);
  subcommand->add_flag("--json", context.json, "Print one JSON document on standard output");
  subcommand->footer("Examples:\n" + verb.examples);
  subcommand->callback([&context, work = std::move(verb.work)] { context.work = work; });
  return *subcommand;
}

}  // namespace lutsmith::cli
