#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/packed_file.h"

namespace lutsmith::cli {

/// A packed layer and what packing it saved.
struct LayerBytes {
  PackedLayer layer;
  std::uint64_t before = 0;
  std::uint64_t after = 0;
};

/// Layers that differ in their numbers only, such as those that a model repeats.
struct LayerKind {
  std::string name;  ///< with '*' where the layers have numbers: "model.layers.*.mlp.up_proj.weight"
  WeightFormat format;
  std::vector<std::size_t> layers;  ///< indices into the layers given, ascending
  std::uint64_t before = 0;         ///< bytes of all layers together
  std::uint64_t after = 0;
  double weight_error = 0;  ///< the largest; not-a-number where one is
};

/// The name with '*' for every part between dots (or slashes) that is a number. "fc1" stays as it is.
std::string name_of_kind(std::string_view name);

/// "4096x14336".
std::string shape_text(const WeightFormat& format);

/// The larger one, or not-a-number where one of them is, which std::max may lose.
double worse(double left, double right);

/// By name, shape and all that they were quantized with, in the order in which each is met first.
std::vector<LayerKind> layer_kinds(std::span<const LayerBytes> layers);

}  // namespace lutsmith::cli
