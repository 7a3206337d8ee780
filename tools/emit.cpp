#include "command.h"

namespace lutsmith::tools {

void add_emit(CLI::App& app, Context& context) {
  add_verb(app, context, {"emit", "", "", [] -> Result<ExitCode> { return ExitCode::success; }});
}

}  // namespace lutsmith::tools
