#include "command.h"

namespace lutsmith::tools {

void add_quantize(CLI::App& app, Context& context) {
  add_verb(app, context, {"quantize", "", "", [] -> Result<ExitCode> { return ExitCode::success; }});
}

}  // namespace lutsmith::tools
