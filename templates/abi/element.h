#pragma once

namespace lutsmith::device {

/// The 16-bit float type of activations, tables, scales and output.
enum class Element { f16, bf16 };

}  // namespace lutsmith::device
