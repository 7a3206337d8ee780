#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "templates/abi/kernel_arguments.h"  // IWYU pragma: export

namespace lutsmith {

constexpr int kLongestTable = 512;  ///< values: pairs of 4-bit codes

/// The kernel parameter with room for every table.
struct LaunchParameter {
  LaunchArguments launch;
  std::array<std::uint16_t, kLongestTable> table;
};
static_assert(offsetof(LaunchParameter, table) == sizeof(LaunchArguments));
static_assert(sizeof(LaunchParameter) == sizeof(KernelParameter<kLongestTable>));

}  // namespace lutsmith
