#pragma once

namespace lutsmith::device {

/// The activation of gates, whose rows alternate with others: kGateRows of include/lutsmith/kernel_spec.h.
enum class Gate { none, silu, gelu_tanh };

}  // namespace lutsmith::device
