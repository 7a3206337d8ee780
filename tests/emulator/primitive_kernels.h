#pragma once

#include "lambda_kernels.h"

// Kernels for a test that use the primitives as emitted sources do. What primitives.h finds wrong it finds at
// the lines of the test.

namespace lutsmith::device {

enum class Element { f16, bf16 };

}  // namespace lutsmith::device

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include "emulator/device/primitives.h"
#pragma GCC diagnostic pop

namespace lutsmith::emulator_test {

/// The kernel's primitives go to the machine that runs the thread.
template <class Body>
Kernel with_primitives(Body body) {
  return [body](Machine& machine) {
    begin(machine, 0);
    emulator::machine_ = &machine;
    body();
  };
}

}  // namespace lutsmith::emulator_test
