#pragma once

namespace lutsmith::device {

/// The float type of activations, tables and scales: f16 or bf16; and that of the output.
enum class Element { f16, bf16, f32 };

}  // namespace lutsmith::device
