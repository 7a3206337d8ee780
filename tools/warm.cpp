#include "command.h"

namespace lutsmith::tools {

void add_warm(CLI::App& app, Context& context) {
  add_verb(app, context, {"warm", "", "", [] -> Result<ExitCode> { return ExitCode::success; }});
}

}  // namespace lutsmith::tools
