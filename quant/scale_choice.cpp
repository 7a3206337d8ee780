#include <fmt/format.h>

#include "core/result.h"
#include "lutsmith/quantization.h"

namespace lutsmith {

std::string_view to_string(ScaleChoice choice) { return choice == ScaleChoice::mse ? "mse" : "absmax"; }

Result<ScaleChoice> parse_scale_choice(std::string_view name) {
  if (name == "absmax") return ScaleChoice::absmax;
  if (name == "mse") return ScaleChoice::mse;
  return refuse(fmt::format("scales: '{}' is not known; allowed: absmax, mse", name));
}

ScaleChoice usual_scale_choice(std::string_view method) {
  return method == "lloyd" || method == "kmeans" ? ScaleChoice::mse : ScaleChoice::absmax;
}

}  // namespace lutsmith
