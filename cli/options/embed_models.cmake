# Writes OUTPUT, a C++ file with the text of INPUT, given by -D on the command line.
file(READ ${INPUT} text)
file(WRITE ${OUTPUT} "// Generated from cli/options/models.json; do not edit.
#include \"cli/options/models_json.h\"

namespace lutsmith::cli {
std::string_view models_json() { return R\"lutsmith(${text})lutsmith\"; }
}  // namespace lutsmith::cli
")
