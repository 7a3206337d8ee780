# Writes OUTPUT, a C++ file that defines FUNCTION of HEADER: the text of each of FILES, named by its path below
# ROOT. All given by -D on the command line.
set(entries "")
foreach(file IN LISTS FILES)
  file(RELATIVE_PATH name ${ROOT} ${file})
  file(READ ${file} text)
  string(APPEND entries "    {\"${name}\", R\"lutsmith(${text})lutsmith\"},\n")
endforeach()
list(LENGTH FILES count)
file(WRITE ${OUTPUT} "// Generated from the files it holds; do not edit.
#include \"${HEADER}\"

#include <array>

namespace {
constexpr std::array<lutsmith::EmbeddedFile, ${count}> kFiles{{
${entries}}};
}  // namespace

std::span<const lutsmith::EmbeddedFile> lutsmith::${FUNCTION}() { return kFiles; }
")
