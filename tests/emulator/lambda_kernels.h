#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "emulator/grid.h"

namespace lutsmith::emulator_test {

using emulator::BlockOrder;
using emulator::GridShape;
using emulator::Machine;
using emulator::Region;
using emulator::Regions;
using emulator::run_grid;

/// A kernel that uses the machine directly, as emitted sources do through the device headers.
using Kernel = std::function<void(Machine&)>;

constexpr GridShape kWarp{.threads = 32, .shared_bytes = 4096};
constexpr GridShape kTwoWarps{.threads = 64, .shared_bytes = 4096};

/// The fault of a grid; empty where it ran to its end.
std::string fault_of(const GridShape& shape, const Kernel& kernel, const Regions& regions = {},
                     BlockOrder order = BlockOrder::ascending);

/// Every kernel comes through here first: what counts as never written, and the line it is at.
void begin(Machine& machine, int line);

/// At a byte of the block's shared memory.
void store(Machine& machine, int byte, std::uint32_t value);
std::uint32_t load(Machine& machine, int byte);

/// Global memory for a kernel.
struct Memory {
  alignas(16) std::byte weights[64] = {};
  alignas(16) std::uint16_t activations[32] = {};
  std::uint16_t output[8] = {};
  float partial_sums[4] = {};
  std::uint32_t arrivals[2] = {};

  Regions regions() {
    return {.weights = weights,
            .activations = std::as_bytes(std::span(activations)),
            .output = std::as_writable_bytes(std::span(output)),
            .partial_sums = std::as_writable_bytes(std::span(partial_sums)),
            .arrivals = std::as_writable_bytes(std::span(arrivals))};
  }
};

}  // namespace lutsmith::emulator_test
