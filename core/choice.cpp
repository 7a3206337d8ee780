#include "lutsmith/choice.h"

#include <fmt/format.h>

namespace lutsmith {

std::string_view to_string(ChoiceOrigin origin) {
  switch (origin) {
    case ChoiceOrigin::given:
      return "given";
    case ChoiceOrigin::model:
      return "model";
    case ChoiceOrigin::tuned:
      return "tuned";
  }
  return "unknown";
}

std::string describe(const Choice& choice) {
  std::string text = describe(choice.schedule);
  if (choice.partitions > 0) {
    text += fmt::format(", {} partition{}", choice.partitions, choice.partitions == 1 ? "" : "s");
  }
  return text;
}

}  // namespace lutsmith
