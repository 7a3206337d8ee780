#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "lutsmith/quantization.h"
#include "lutsmith/safetensors.h"

namespace lutsmith {

// A packed checkpoint is a safetensors file. A quantized tensor NAME of the original is replaced by
//
//   NAME.packed   U8   [packed_bytes]   codes, scales and offsets, what a kernel reads
//   NAME.table    F16 or BF16           the values behind the codes; none where rows have their own tables,
//                                       which are in the former
//
// and described in the file's metadata under kPackedMetadataKey, a JSON object
//
//   {"NAME": {"bits", "group", "n", "k", "dtype", "table", "method", "source_dtype", "weight_error"}}
//
// with "group" a number or "channel", and with "offsets": true where there are some. A stack of experts NAME
// [experts, n, k] becomes the layers NAME.0, NAME.1, ..., each with "source": "NAME" and "expert": its
// number. Everything else is as in the original.

/// Its number changes when the meaning of the packed bytes or of the description does.
inline constexpr const char* kPackedMetadataKey = "lutsmith.packed.v1";
/// What the key of any version begins with.
inline constexpr const char* kPackedMetadataPrefix = "lutsmith.packed.v";

/// One quantized matrix of a packed checkpoint.
struct PackedLayer {
  std::string name;  ///< of the tensor it replaces
  WeightFormat format;
  std::string method;        ///< "nf", "int", "fp"
  std::string source_dtype;  ///< of the tensor it replaces, as in safetensors
  double weight_error = 0;   ///< ||packed - original|| / ||original||
  std::string source = {};   ///< the stack of experts it is from; empty where the tensor was a matrix
  std::int64_t expert = -1;  ///< its number in the stack
};

/// What the kernels read of one layer.
struct LayerWeights {
  std::vector<std::byte> packed;
  std::vector<std::uint16_t> table;
};

/// A layer as a file holds it. Its weights are read when they are asked for, so that a checkpoint of any size
/// needs the memory of one layer.
struct StoredLayer {
  PackedLayer layer;
  std::uint64_t packed_size = 0;  ///< bytes of its .packed tensor
  SafetensorsFile file;

  Result<LayerWeights> read() const;
};

std::string packed_tensor_name(const std::string& name);
std::string table_tensor_name(const std::string& name);

/// The value for kPackedMetadataKey.
std::string describe_layers(std::span<const PackedLayer> layers);

/// Whether a file holds packed layers, in this format or that of another version.
bool is_packed(const SafetensorsFile& file);

/// The packed layers of all files of a checkpoint, by name. Errors: corrupt_data where
/// description and tensors contradict each other, invalid_argument where there are no packed layers,
/// unsupported where another version of lutsmith packed them.
Result<std::vector<StoredLayer>> stored_layers(const Checkpoint& checkpoint);

/// "F16", "BF16": the name safetensors has for a type.
std::string safetensors_dtype(DataType type);

/// Bytes per element of a floating type that `to_floats` reads; 0 for any other type.
std::int64_t floating_bytes(std::string_view safetensors_dtype);

}  // namespace lutsmith
