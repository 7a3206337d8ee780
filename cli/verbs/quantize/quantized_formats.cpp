#include "cli/verbs/quantize/quantized_formats.h"

#include <array>
#include <vector>

namespace lutsmith::cli {
namespace {

using Tensors = std::map<std::string, TensorInfo>;
using Members = std::map<std::string, QuantizedFormat>;

constexpr std::string_view kGiveOriginal = "give the checkpoint it was made from, in 16 bits";
constexpr QuantizedFormat kGptq{"GPTQ", kGiveOriginal};
constexpr QuantizedFormat kAwq{"AWQ", kGiveOriginal};
constexpr QuantizedFormat kFp8{"fp8",
                               "convert it to bf16 first (weight times weight_scale, or weight_scale_inv)"};
constexpr QuantizedFormat kInt8{"int8", kGiveOriginal};
constexpr QuantizedFormat kFp4{"fp4", kGiveOriginal};
constexpr QuantizedFormat kScaledIntegers{"integers with scales", kGiveOriginal};

/// A layer MODULE is recognised by tensors MODULE + suffix that are all there; the others belong to it where
/// they are. A suffix that ends in '*' stands for every name that begins so. With `dtype` only where the
/// first tensor is of that type.
struct Pattern {
  QuantizedFormat format;
  std::vector<std::string_view> required;
  std::vector<std::string_view> others;
  std::string_view dtype = {};
};

// The layouts of each: docs/checkpoints.md.
const std::array kPatterns{
    Pattern{{"bitsandbytes 4-bit", kGiveOriginal}, {".weight.absmax"}, {".weight", ".weight.*"}},
    Pattern{{"bitsandbytes 8-bit", kGiveOriginal}, {".SCB"}, {".weight", ".weight_format", ".CB"}},
    Pattern{kGptq, {".qweight", ".scales"}, {".qzeros", ".g_idx", ".bits", ".perm"}},
    Pattern{{"GPTQ (Marlin)", kGiveOriginal}, {".B", ".s"}, {".workspace"}},
    Pattern{{"compressed-tensors", kGiveOriginal},
            {".weight_packed"},
            {".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx", ".weight_global_scale",
             ".input_global_scale", ".input_scale"}},
    Pattern{{"MXFP4", kGiveOriginal}, {"_blocks", "_scales"}, {}},
    Pattern{{"HQQ", kGiveOriginal}, {".W_q"}, {".scale", ".zero", ".meta", ".W_q.*"}},
    Pattern{{"FLUTE or HIGGS", kGiveOriginal}, {".weight", ".scales", ".tables"}, {".tables2"}},
    Pattern{{"MLX", kGiveOriginal}, {".weight", ".scales"}, {".biases"}, "U32"},
    Pattern{{"VPTQ", kGiveOriginal},
            {".indices", ".centroids.weight"},
            {".res_indices", ".res_centroids.weight", ".outlier_indices", ".outlier_centroids.weight",
             ".weight_scale", ".weight_bias", ".perm"}},
    Pattern{{"AQLM", kGiveOriginal}, {".codes", ".codebooks"}, {".scales"}},
    Pattern{{"QuIP#", kGiveOriginal}, {".Qidxs"}, {".SU", ".SV", ".Wscale", ".codebook_id"}},
    Pattern{
        {"quanto", kGiveOriginal}, {".weight._data", ".weight._scale"}, {".weight._zeropoint", ".weight._*"}},
    Pattern{{"lutsmith", kGiveOriginal}, {".packed", ".table"}, {}},
};

void add_named(const Tensors& tensors, const std::string& module, std::string_view suffix,
               const QuantizedFormat& format, Members& members) {
  if (!suffix.ends_with('*')) {
    const std::string name = module + std::string(suffix);
    if (tensors.contains(name)) members.emplace(name, format);
    return;
  }
  suffix.remove_suffix(1);
  const std::string prefix = module + std::string(suffix);
  for (auto tensor = tensors.lower_bound(prefix);
       tensor != tensors.end() && tensor->first.starts_with(prefix); ++tensor) {
    members.emplace(tensor->first, format);
  }
}

// Both call their tensors the same; AWQ packs the columns of [k, n], GPTQ its rows.
QuantizedFormat gptq_or_awq(const Tensors& tensors, const std::string& module) {
  const auto& weight = tensors.at(module + ".qweight").shape;
  const auto& scales = tensors.at(module + ".scales").shape;
  const bool columns_packed = weight.size() == 2 && scales.size() == 2 && weight[1] < scales[1];
  return columns_packed ? kAwq : kGptq;
}

void find_modules(const Tensors& tensors, const Pattern& pattern, Members& members) {
  for (const auto& [name, tensor] : tensors) {
    if (!name.ends_with(pattern.required.front())) continue;
    if (!pattern.dtype.empty() && tensor.dtype != pattern.dtype) continue;
    const std::string module = name.substr(0, name.size() - pattern.required.front().size());
    bool complete = true;
    for (const std::string_view suffix : pattern.required) {
      complete = complete && tensors.contains(module + std::string(suffix));
    }
    if (!complete) continue;
    const QuantizedFormat format =
        pattern.format.name == kGptq.name ? gptq_or_awq(tensors, module) : pattern.format;
    for (const std::string_view suffix : pattern.required)
      add_named(tensors, module, suffix, format, members);
    for (const std::string_view suffix : pattern.others) add_named(tensors, module, suffix, format, members);
  }
}

QuantizedFormat scaled_format(std::string_view dtype) {
  if (dtype.starts_with("F8_")) return kFp8;
  if (dtype == "I8") return kInt8;
  const bool packed_fp4 = dtype.starts_with("F4") || dtype.starts_with("F6") || dtype == "U8";
  return packed_fp4 ? kFp4 : kScaledIntegers;
}

bool is_plain_float(std::string_view dtype) {
  return dtype == "F64" || dtype == "F32" || dtype == "F16" || dtype == "BF16";
}

// Values in 8 or fewer bits, with their scales beside them as NAME_scale and so on; types that only
// quantizers write need no scale to be recognised.
void find_scaled(const Tensors& tensors, Members& members) {
  for (const auto& [name, tensor] : tensors) {
    if (is_plain_float(tensor.dtype) || tensor.shape.size() < 2 || members.contains(name)) continue;
    const bool fp8 = tensor.dtype.starts_with("F8_");
    const bool fewer_bits = tensor.dtype.starts_with("F4") || tensor.dtype.starts_with("F6");
    const bool scaled = tensors.contains(name + "_scale") || tensors.contains(name + "_scale_inv");
    if (!fp8 && !fewer_bits && !scaled) continue;
    const QuantizedFormat format = scaled_format(tensor.dtype);
    members.emplace(name, format);
    for (const std::string_view suffix :
         {"_scale", "_scale_inv", "_scale_2", "_zero_point", "_global_scale"}) {
      add_named(tensors, name, suffix, format, members);
    }
    const std::string module = name.substr(0, name.rfind('.') + 1);
    for (const std::string_view suffix : {"input_scale", "input_scale_inv", "output_scale"}) {
      add_named(tensors, module, suffix, format, members);
    }
  }
}

}  // namespace

Members quantized_tensors(const Tensors& tensors) {
  Members members;
  for (const Pattern& pattern : kPatterns) find_modules(tensors, pattern, members);
  find_scaled(tensors, members);
  return members;
}

}  // namespace lutsmith::cli
