#include "cli/verbs/quantize/importance.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "checkpoint/packed_file.h"
#include "cli/output/printable.h"
#include "core/result.h"

namespace lutsmith::cli {

Result<Importance> Importance::open(const std::string& path, std::span<const TensorDecision> decisions) {
  Importance importance;
  if (path.empty()) return importance;
  const bool counts = std::ranges::any_of(decisions, [](const TensorDecision& decision) {
    return !decision.left_alone && decision.settings.scale_choice() == ScaleChoice::mse;
  });
  if (!counts) {
    return refuse(
        "importance: it changes nothing where all scales are absmax or rms; give --scales mse, or --method "
        "lloyd or kmeans");
  }
  auto file = SafetensorsFile::open(path);
  if (!file) return failure(file);
  for (const TensorDecision& decision : decisions) {
    if (decision.left_alone) continue;
    const std::string name = printable(decision.name, 100);
    const auto found = file->tensors().find(decision.name);
    if (found == file->tensors().end()) {
      return refuse(fmt::format(
          "importance: '{}' holds no '{}'; it needs one for every tensor that is quantized, or leave that "
          "one out with --skip",
          printable(path), name));
    }
    const TensorInfo& tensor = found->second;
    if (tensor.shape != std::vector{decision.k} || floating_bytes(tensor.dtype) == 0) {
      return refuse(fmt::format("importance: '{}' is {} [{}]; allowed: F64, F32, F16 or BF16 [{}]", name,
                                printable(tensor.dtype, 20), fmt::join(tensor.shape, ", "), decision.k));
    }
  }
  importance.file_ = *std::move(file);
  return importance;
}

Result<std::vector<float>> Importance::of(const TensorDecision& decision) const {
  if (!file_) return std::vector<float>();
  const auto bytes = file_->read(decision.name);
  if (!bytes) return std::unexpected(bytes.error());
  return to_floats(file_->tensors().at(decision.name).dtype, *bytes);
}

}  // namespace lutsmith::cli
