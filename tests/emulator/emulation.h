#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/emulated_kernel.h"
#include "lutsmith/lutsmith.h"
#include "problem.h"

namespace lutsmith::emulator_test {

using namespace test;

/// Whether a suite is to run the kernel that has this number in it. Builds with the address sanitizer run
/// every tenth: the emulator checks accesses of its own accord, the release build runs all kernels, and both
/// take minutes.
bool has_turn(std::size_t number);

/// Those of a suite's numbers of partitions that are to run: with the address sanitizer the first one and
/// every third behind it.
std::vector<int> having_turn(const std::vector<int>& partitions);

/// The machine's compiler; every test of emitted sources needs one.
const emulator::HostCompiler& host_compiler();

/// A file of templates/, without what it includes.
std::string body_of_template(std::string_view name);

struct EmulationOptions {
  int partitions = 0;  ///< 0: what the library takes for a GPU of 4 multiprocessors
  emulator::BlockOrder order = emulator::BlockOrder::ascending;
  std::int64_t output_padding = 8;    ///< elements behind each row of Y
  std::int64_t output_offset = 0;     ///< where Y begins, in elements from a multiple of 16 bytes
  bool in_place = false;              ///< R, where there is one, lies where Y comes to lie
  std::int64_t residual_padding = 8;  ///< elements behind each row of R, where it has a place of its own
  std::int64_t residual_offset = 0;   ///< likewise where R begins
};

/// Y as [m, n], elements of its type; poisoned before the launch, X and Y with padding behind their rows that
/// no kernel may touch.
Result<std::vector<std::byte>> emulate_bytes(const emulator::EmulatedKernel& kernel, const Source& source,
                                             const Problem& problem, const EmulationOptions& options = {});

/// The same of a Y of 16-bit floats.
Result<std::vector<std::uint16_t>> emulate(const emulator::EmulatedKernel& kernel, const Source& source,
                                           const Problem& problem, const EmulationOptions& options = {});

/// Compiles the source, runs it for each number of tokens with each number of partitions, and expects the
/// float64 product; each number in two orders of the blocks, which must give the same bits.
void expect_right_at(const KernelSpec& spec, const Schedule& schedule,
                     const std::vector<std::int64_t>& tokens, const std::vector<int>& partitions);

/// The same for one number of tokens.
void expect_right_at(const KernelSpec& spec, const Schedule& schedule, std::int64_t m,
                     const std::vector<int>& partitions);

/// The same with every number of partitions from 1 to one more than there are steps.
void expect_right(const KernelSpec& spec, const Schedule& schedule, std::int64_t m);

}  // namespace lutsmith::emulator_test
