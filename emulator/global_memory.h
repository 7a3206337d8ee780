#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "emulator/clock.h"
#include "emulator/device/machine.h"

namespace lutsmith::emulator {

/// The caller's memory that a launch may touch: each region one allocation of its own, so that the address
/// sanitizer guards it too. Writable ones belong to the caller and change.
struct Regions {
  std::span<const std::byte> weights;
  std::span<const std::byte> activations;
  std::span<std::byte> output;
  std::span<std::byte> partial_sums;
  std::span<std::byte> arrivals;
  std::span<const std::byte> residual = {};  ///< may be the output
  std::span<const std::byte> bias = {};
  std::size_t output_element_bytes = 2;  ///< and of the residual
};

/// Who did something, in which block, and what they know.
struct Actor {
  int cluster = 0;
  int block = 0;
  int thread = 0;  ///< of the block
  Stamp stamp;
  const Clock* clock = nullptr;
  const ForeignClocks* foreign = nullptr;
};

/// Global memory during a launch. Every access is checked: it lies within its region and is aligned,
/// partial sums are read by those only who know of their writing, no output is written twice, and no residual
/// in its place is read after that. What is wrong is thrown as a Fault.
class GlobalMemory {
 public:
  explicit GlobalMemory(const Regions& regions);

  void load(Region region, void* to, const void* from, std::size_t bytes, const Actor& actor) const;
  void store(Region region, void* to, const void* from, std::size_t bytes, const Actor& actor);
  /// Checks that a copy may read these bytes.
  void check_copy(Region region, const void* from, std::size_t bytes, std::size_t alignment) const;

  /// Adds one to a counter; the count before. Releases what `actor` knows and gives what was released
  /// there before.
  std::uint32_t count_arrival(std::uint32_t* counter, const Actor& actor, ForeignClocks& learned);
  /// After the launch: every counter is back at zero.
  void check_arrivals() const;

 private:
  struct Write {
    int cluster = -1;  ///< -1: there was none
    int block = 0;
    int thread = 0;
    Stamp stamp;
  };

  static bool knows(const Actor& actor, const Write& write);
  std::size_t offset_of(Region region, const void* pointer, std::size_t bytes, std::size_t alignment) const;

  std::array<std::span<const std::byte>, 7> regions_;
  std::size_t output_element_bytes_;
  std::vector<bool> output_written_;  ///< of every element
  std::vector<Write> partial_sums_;   ///< last write of every float
  std::map<const std::uint32_t*, ForeignClocks> released_;
};

}  // namespace lutsmith::emulator
