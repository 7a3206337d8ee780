#include "command.h"

namespace lutsmith::tools {

void add_doctor(CLI::App& app, Context& context) {
  add_verb(app, context, {"doctor", "", "", [] -> Result<ExitCode> { return ExitCode::success; }});
}

}  // namespace lutsmith::tools
