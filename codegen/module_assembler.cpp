#include "codegen/module_assembler.h"

#include <llvm/ADT/StringSet.h>

#include "templates/embedded_templates.h"

namespace lutsmith {
namespace {

class Assembler {
 public:
  std::string take_text() { return std::move(text_); }

  void append(llvm::StringRef module) {
    while (!module.empty()) {
      const auto [line, rest] = module.split('\n');
      append_line(line);
      module = rest;
    }
  }

 private:
  void append_line(llvm::StringRef line) {
    if (line == "#pragma once") return;
    llvm::StringRef name = line;
    if (!name.consume_front("#include \"")) {
      // Removed lines leave blank ones behind; one in a row is enough.
      if (line.empty() && llvm::StringRef(text_).ends_with("\n\n")) return;
      text_ += line;
      text_ += '\n';
      return;
    }
    name = name.take_until([](char c) { return c == '"'; });
    if (included_.insert(name).second) append(module_text(name));
  }

  llvm::StringSet<> included_;
  std::string text_;
};

}  // namespace

llvm::StringRef module_text(llvm::StringRef name) {
  for (const EmbeddedFile& module : embedded_templates()) {
    if (llvm::StringRef(module.name) == name) return module.text;
  }
  return {};
}

std::string assemble_modules(llvm::StringRef root) {
  Assembler assembler;
  assembler.append(root);
  return assembler.take_text();
}

}  // namespace lutsmith
