#include "command.h"

namespace lutsmith::tools {

void add_run(CLI::App& app, Context& context) {
  add_verb(app, context, {"run", "", "", [] -> Result<ExitCode> { return ExitCode::success; }});
}

}  // namespace lutsmith::tools
