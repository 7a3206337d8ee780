#include "codegen/module_assembler.h"

#include <llvm/ADT/StringSet.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "templates/embedded_templates.h"

namespace lutsmith {
namespace {

constexpr llvm::StringLiteral kIfWithout("#ifdef LUTSMITH_WITHOUT_OFFSETS");
constexpr llvm::StringLiteral kIfWith("#ifndef LUTSMITH_WITHOUT_OFFSETS");

class Assembler {
 public:
  explicit Assembler(const WeightFormat& format) : offsets_(format.offsets) {}

  std::string take_text() { return std::move(text_); }

  void append(llvm::StringRef module) {
    while (!module.empty()) {
      const auto [line, rest] = module.split('\n');
      append_line(line);
      module = rest;
    }
  }

 private:
  /// Whether the line belongs to a conditional on offsets. Keeps account of all conditionals, as an #endif
  /// does not say whose it is.
  bool decides(llvm::StringRef line) {
    if (line.starts_with("#if")) {
      const bool own = line == kIfWith || line == kIfWithout;
      conditionals_.push_back(own ? std::optional((line == kIfWith) == offsets_) : std::nullopt);
      return own;
    }
    if (conditionals_.empty() || !line.starts_with("#e")) return false;
    std::optional<bool>& innermost = conditionals_.back();
    const bool own = innermost.has_value();
    if (line.starts_with("#endif")) {
      conditionals_.pop_back();
    } else if (own) {
      innermost = !*innermost;
    }
    return own;
  }

  void append_line(llvm::StringRef line) {
    if (line == "#pragma once" || decides(line)) return;
    if (std::ranges::find(conditionals_, std::optional(false)) != conditionals_.end()) return;
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

  bool offsets_;
  /// Those that the line is in, from the outermost: of those on offsets whether the text is taken.
  std::vector<std::optional<bool>> conditionals_;
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

std::string assemble_modules(llvm::StringRef root, const WeightFormat& format) {
  Assembler assembler(format);
  assembler.append(root);
  return assembler.take_text();
}

}  // namespace lutsmith
