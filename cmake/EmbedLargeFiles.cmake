# Writes OUTPUT, a C++ file that defines FUNCTION of HEADER, in namespace lutsmith::cli: the bytes of each of FILES, named
# without its folder, which the assembler reads when OUTPUT is compiled. All given by -D on the command line.
# OUTPUT is written anew whenever one of FILES changes, so that it is compiled again.
set(bytes "")
set(symbols "")
set(entries "")
set(number 0)
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  set(symbol ${FUNCTION}_${number})
  string(APPEND bytes "    \"${symbol}: .incbin \\\"${file}\\\"\\n\"\n    \"${symbol}_end: .byte 0\\n\"\n")
  string(APPEND symbols "extern const char ${symbol}[];\nextern const char ${symbol}_end[];\n")
  string(APPEND entries "      {\"${name}\", {${symbol}, ${symbol}_end}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT} "// Generated from the files it holds; do not edit.
#include \"${HEADER}\"

#include <array>

asm(\".pushsection .rodata.${FUNCTION}, \\\"a\\\"\\n\"
${bytes}    \".popsection\\n\");

extern \"C\" {
${symbols}}

std::span<const lutsmith::EmbeddedFile> lutsmith::${FUNCTION}() {
  static const std::array<EmbeddedFile, ${number}> files{{
${entries}  }};
  return files;
}
")
