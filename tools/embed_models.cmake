# Writes OUTPUT, a C++ file with the text of INPUT, given by -D on the command line.
file(READ ${INPUT} text)
file(WRITE ${OUTPUT} "// Generated from tools/models.json; do not edit.
#include \"models_json.h\"

namespace lutsmith::tools {
std::string_view models_json() { return R\"lutsmith(${text})lutsmith\"; }
}  // namespace lutsmith::tools
")
