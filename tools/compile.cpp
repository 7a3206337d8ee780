#include "command.h"

namespace lutsmith::tools {

void add_compile(CLI::App& app, Context& context) {
  add_verb(app, context, {"compile", "", "", [] -> Result<ExitCode> { return ExitCode::success; }});
}

}  // namespace lutsmith::tools
