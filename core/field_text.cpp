#include "core/field_text.h"

#include <algorithm>

namespace lutsmith::core {

std::string option_name(const FieldInfo& field) {
  std::string name(field.option.empty() ? field.name : field.option);
  std::ranges::replace(name, '_', '-');
  return name;
}

}  // namespace lutsmith::core
