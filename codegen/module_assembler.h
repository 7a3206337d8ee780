#pragma once

#include <llvm/ADT/StringRef.h>

#include <string>

namespace lutsmith {

/// The text of an embedded template module, such as "templates/few_tokens/kernel.cu". The name is a constant
/// of the generator; a name that is not embedded gives an empty text.
llvm::StringRef module_text(llvm::StringRef name);

/// `root` with every #include of a template replaced by that template's text, each module once, in the
/// order in which a compiler would meet them. The result includes nothing.
std::string assemble_modules(llvm::StringRef root);

}  // namespace lutsmith
