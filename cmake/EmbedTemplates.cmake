# Writes OUTPUT, a C++ file with the text of each of FILES, given by -D on the command line.
set(entries "")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  file(READ ${file} text)
  string(APPEND entries "    {\"templates/${name}\", R\"lutsmith(${text})lutsmith\"},\n")
endforeach()
file(WRITE ${OUTPUT} "// Generated from templates/; do not edit.
#include \"templates/embedded_templates.h\"

namespace lutsmith {
namespace {
constexpr TemplateModule kModules[] = {
${entries}};
}  // namespace

std::span<const TemplateModule> embedded_templates() { return kModules; }
}  // namespace lutsmith
")
