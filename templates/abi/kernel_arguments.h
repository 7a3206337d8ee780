#pragma once

#include "templates/abi/host_device.h"

// The one parameter of every generated kernel, passed by value in constant memory. Shared by the
// launching host code and the device code; plain C++17 without the standard library.

namespace lutsmith {

/// What varies from launch to launch, and what every form of the parameter begins with.
struct LaunchArguments {
  const unsigned char* weights;       ///< packed, see packed_layout.h
  const unsigned short* activations;  ///< X [tokens, K], 16-bit floats
  void* output;                       ///< Y [tokens, N], or half as many columns where they are gated
  float* partial_sums;                ///< [partitions][2][tile_rows * tile_tokens]
  unsigned int* arrivals;             ///< [partitions][blocks of a cluster], zero before and after a launch
  long long activation_stride;        ///< elements between rows of X
  long long output_stride;            ///< elements between rows of Y
  int tokens;
  int steps_per_grain;         ///< cuts between partitions fall on multiples of this many steps
  int grains_per_partition;    ///< every partition has this many grains,
  int extra_grains;            ///< and so many partitions one more
  int whole_tiles;             ///< besides, of every partition; see Partition in include/lutsmith/codegen.h
  int sharing;                 ///< partitions that have grains
  const void* residual;        ///< R [tokens, N], in the output's type; may be the output
  long long residual_stride;   ///< elements between rows of R
  const unsigned short* bias;  ///< [N]; no kernel writes it
};

/// Values of a table: one for every code, or two for every pair of codes.
LUTSMITH_HOST_DEVICE constexpr unsigned int table_length(int bits, bool pairs) {
  return pairs ? 2u << 2 * bits : 1u << bits;
}

/// The usual form: one table for all rows follows.
template <unsigned int kTableLength>
struct KernelParameter {
  LaunchArguments launch;
  unsigned short table[kTableLength];  ///< 16-bit floats
};

/// The form without a table: each row has its own, among the packed weights.
struct RowTablesParameter {
  LaunchArguments launch;
};

/// Places for segments of rows with tables of their own: as many as a launch may have.
constexpr int kSegmentPlaces = 4;

/// The form for a table for each segment of rows.
template <unsigned int kTableLength>
struct SegmentedParameter {
  LaunchArguments launch;
  int segment_ends[kSegmentPlaces];                     ///< the row behind each segment; of the last and of
                                                        ///< those that are not there, behind all tiles
  unsigned short table[kSegmentPlaces * kTableLength];  ///< of one segment behind another, 16-bit floats
};

/// Bytes of a parameter's form: of one table of that length, which may be 0, or of one for each segment.
LUTSMITH_HOST_DEVICE constexpr unsigned int form_bytes(unsigned int table_length, bool segments) {
  const unsigned int ends = segments ? kSegmentPlaces * static_cast<unsigned int>(sizeof(int)) : 0;
  const unsigned int tables = segments ? kSegmentPlaces : 1;
  return static_cast<unsigned int>(sizeof(LaunchArguments)) + ends + tables * 2 * table_length;
}

/// The form for tables that are many or long: they lie in device memory, and no kernel writes them.
struct PointedTables {
  LaunchArguments launch;
  const unsigned short* tables;  ///< 16-bit floats; the first at a multiple of 16 bytes
  long long table_stride;        ///< values from the table of one row to the next row's; 0: one for all rows
};

/// CUtensorMap: how the copy engine finds boxes of a matrix. Made by the driver, read by the hardware.
struct alignas(64) TensorMap {
  unsigned long long words[16];
};

/// Any form, for kernels to which the copy engine brings X: boxes of kBoxColumns along K by as many tokens as
/// the kernel's tile has.
template <class Form>
struct MappedParameter {
  Form form;
  TensorMap activations;

  static constexpr int kBoxColumns = 64;
};

/// Where the map stands behind a form of so many bytes.
LUTSMITH_HOST_DEVICE constexpr unsigned int tensor_map_offset(unsigned int form_bytes) {
  constexpr unsigned int kAlignment = alignof(TensorMap);
  return (form_bytes + kAlignment - 1) / kAlignment * kAlignment;
}
static_assert(sizeof(MappedParameter<KernelParameter<4>>) ==
                  tensor_map_offset(form_bytes(4, false)) + sizeof(TensorMap) &&
              sizeof(MappedParameter<KernelParameter<512>>) ==
                  tensor_map_offset(form_bytes(512, false)) + sizeof(TensorMap) &&
              sizeof(MappedParameter<SegmentedParameter<2>>) ==
                  tensor_map_offset(form_bytes(2, true)) + sizeof(TensorMap) &&
              sizeof(MappedParameter<RowTablesParameter>) ==
                  tensor_map_offset(form_bytes(0, false)) + sizeof(TensorMap));

}  // namespace lutsmith
