#pragma once

#include <cstddef>
#include <cstdint>

#include "lutsmith/codegen.h"
#include "lutsmith/error.h"
#include "lutsmith/kernel_spec.h"
#include "lutsmith/matmul.h"

namespace lutsmith {
struct LaunchArguments;  // templates/abi/kernel_arguments.h, which not all who may see core may see
}

// From what a caller asks for to what device code reads; the same for a GPU and for the emulator.
namespace lutsmith::core {

/// The arguments with nothing left open: `tokens` where they say no m, and the strides of rows without
/// padding.
MatmulArguments completed(MatmulArguments arguments, const KernelSpec& spec, std::int64_t tokens);

/// Checks completed arguments for a kernel of this spec, whose packed weights are so long. Errors:
/// invalid_argument, naming the field.
Result<void> check(const MatmulArguments& completed, const KernelSpec& spec, std::size_t packed_bytes);

/// What checked arguments are to device code. The workspace's pointers are left null.
LaunchArguments launch_arguments(const MatmulArguments& completed, const Partition& cut);

/// Writes the form of a kernel's parameter, the launch and the tables of checked arguments, and returns its
/// length: that of form_bytes() of templates/abi/kernel_arguments.h.
std::size_t write_form(const LaunchArguments& launch, const MatmulArguments& completed,
                       const KernelSpec& spec, std::byte* form);

}  // namespace lutsmith::core
