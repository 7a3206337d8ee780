#pragma once

#include <llvm/ADT/StringRef.h>

#include <string>

#include "lutsmith/weight_format.h"

namespace lutsmith {

/// The text of an embedded template module, such as "templates/few_tokens/kernel.cu". The name is a constant
/// of the generator; a name that is not embedded gives an empty text.
llvm::StringRef module_text(llvm::StringRef name);

/// `root` with every #include of a template replaced by that template's text, each module once, in the
/// order in which a compiler would meet them. The result includes nothing.
///
/// Conditionals on LUTSMITH_WITHOUT_OFFSETS are decided here, by the format. So what offsets take is no part
/// of the text for a format that has none: that text, and with it the keys of kernels that are cached, is
/// what it was before there were offsets.
std::string assemble_modules(llvm::StringRef root, const WeightFormat& format);

}  // namespace lutsmith
