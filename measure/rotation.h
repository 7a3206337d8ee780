#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "measure/device.h"

namespace lutsmith::measure {

/// How launches go round over copies of what they read, so that none finds its own in the L2 cache:
///
///   pool   | copy 0 | copy 1 | copy 2 | ...       5 x L2 in all (at most 512 copies)
///   launch     0        1        2      ...  0  1  2 ...
struct Rotation {
  int sets = 1;            ///< copies, each at an address of its own
  int launches = 1;        ///< in one recording; launch i uses copy i mod sets
  std::size_t stride = 0;  ///< bytes between copies

  std::size_t offset(int launch) const { return static_cast<std::size_t>(launch % sets) * stride; }
  std::size_t pool_bytes() const { return static_cast<std::size_t>(sets) * stride; }
};

/// Copies of `bytes` (1 at least) that together are several times the L2 cache, within `memory_limit` (but
/// one copy at least).
Rotation make_rotation(std::size_t bytes, std::size_t l2_bytes, std::size_t memory_limit);

/// The copies of a rotation, on the device: up to a quarter of its memory, and 8 GiB.
class RotatingPool {
 public:
  /// `device` must outlive the pool.
  explicit RotatingPool(Device& device) : device_(&device) {}

  /// Copies `data` to every place of a rotation over it.
  Result<void> load(std::span<const std::byte> data);

  /// Fills the places of a rotation over `bytes` each with the repeated `pattern`: byte i of the pool is
  /// pattern[i % size]. For data that need not be the same in each copy.
  Result<void> load_repeated(std::span<const std::byte> pattern, std::size_t bytes);

  const Rotation& rotation() const { return rotation_; }
  /// What launch i reads.
  std::byte* copy_for(int launch) const { return memory_->data() + rotation_.offset(launch); }

 private:
  Rotation plan(std::size_t bytes) const;
  Result<void> repeat(std::size_t filled, std::size_t bytes);

  Device* device_;
  Rotation rotation_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace lutsmith::measure
