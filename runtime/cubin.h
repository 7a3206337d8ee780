#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "lutsmith/error.h"
#include "lutsmith/target.h"

namespace lutsmith {

/// Whether `cubin` is a complete ELF file of CUDA code for `target` with a kernel of that name. What a
/// compiler that was cut off puts out must not be kept. Error: corrupt_data, saying what is wrong.
Result<void> check_cubin(std::span<const std::byte> cubin, Target target, std::string_view kernel);

}  // namespace lutsmith
