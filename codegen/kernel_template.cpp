#include "codegen/kernel_template.h"

#include <fmt/format.h>

namespace lutsmith {

void KernelTemplate::set_constant(std::string_view name, std::string_view value) {
  const std::size_t at = find(fmt::format(" {} = ", name));
  if (at == std::string::npos) return;
  const std::size_t begin = at + name.size() + 4;
  text_.replace(begin, text_.find(';', begin) - begin, value);
}

void KernelTemplate::set_constant(std::string_view name, std::int64_t value) {
  set_constant(name, std::string_view(fmt::to_string(value)));
}

void KernelTemplate::set_flag(std::string_view name, bool value) {
  set_constant(name, std::string_view(value ? "true" : "false"));
}

void KernelTemplate::replace(std::string_view what, std::string_view with) {
  const std::size_t at = find(what);
  if (at != std::string::npos) text_.replace(at, what.size(), with);
}

std::size_t KernelTemplate::find(std::string_view part) {
  const std::size_t at = text_.find(part);
  if (at == std::string::npos && missing_.empty()) missing_ = part;
  return at;
}

std::string constant_name(std::string_view field) {
  std::string name = "k";
  bool up = true;
  for (const char letter : field) {
    if (letter != '_') name += up ? static_cast<char>(letter - 'a' + 'A') : letter;
    up = letter == '_';
  }
  return name;
}

}  // namespace lutsmith
