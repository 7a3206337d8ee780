#include <fmt/format.h>

#include "core/result.h"
#include "lutsmith/quantization.h"

namespace lutsmith {

std::string_view to_string(ScaleChoice choice) {
  switch (choice) {
    case ScaleChoice::mse:
      return "mse";
    case ScaleChoice::rms:
      return "rms";
    case ScaleChoice::absmax:
      break;
  }
  return "absmax";
}

Result<ScaleChoice> parse_scale_choice(std::string_view name) {
  if (name == "absmax") return ScaleChoice::absmax;
  if (name == "mse") return ScaleChoice::mse;
  if (name == "rms") return ScaleChoice::rms;
  return refuse(fmt::format("scales: '{}' is not known; allowed: absmax, mse, rms", name));
}

ScaleChoice usual_scale_choice(std::string_view method) {
  return method == "lloyd" || method == "kmeans" ? ScaleChoice::mse : ScaleChoice::absmax;
}

}  // namespace lutsmith
