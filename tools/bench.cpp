#include "command.h"

namespace lutsmith::tools {

void add_bench(CLI::App& app, Context& context) {
  add_verb(app, context, {"bench", "", "", [] -> Result<ExitCode> { return ExitCode::success; }});
}

}  // namespace lutsmith::tools
