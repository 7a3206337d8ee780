#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "emulator/clock.h"
#include "emulator/shared_memory.h"
#include "emulator/stack_image.h"
#include "lutsmith/weight_format.h"

namespace lutsmith::emulator {

struct Thread;

/// The sums of one thread that products under way belong to. The thread's own array is poisoned until they
/// are done.
struct PendingSums {
  float* array = nullptr;
  std::vector<float> values;
  std::uint32_t last_product = 0;
};

/// What describes B to a product, taken apart.
struct OperandB {
  std::size_t offset = 0;  ///< in the block's shared memory; of the 16 k that are multiplied

  /// Where 8 neighbouring k of a token are: half 0 or 1.
  std::size_t piece(int token, int half) const;
  /// Throws what is wrong with it.
  static OperandB parse(std::uint64_t description, std::uint32_t shared_base);
};

/// What all threads of a warpgroup must say of a product alike.
struct ProductCall {
  std::uint64_t b = 0;
  int tokens = 0;
  bool accumulate = false;
  DataType type = DataType::f16;
  std::uint32_t commits = 0;  ///< groups of products closed before it

  friend bool operator==(const ProductCall&, const ProductCall&) = default;
};

/// A product of a warpgroup, from the first thread that issues it to the last that has waited for it.
struct Product {
  ProductCall call;
  OperandB b;
  int line = 0;
  int issued = 0;  ///< threads
  int waited = 0;
  bool done = false;
  std::vector<SharedMemory::Source> sources;
  std::array<std::array<std::uint32_t, 4>, kWarpgroupThreads> a;
  std::array<std::shared_ptr<PendingSums>, kWarpgroupThreads> sums;
};

/// What a thread has issued and not yet waited for.
struct IssuedProduct {
  const std::uint32_t* a = nullptr;
  std::shared_ptr<PendingSums> sums;
};

/// The products of one thread, counted from 1 as those of its warpgroup are.
struct ThreadProducts {
  bool fenced = false;  ///< since it last waited
  StackImage at_fence;
  std::uint32_t issued = 0;
  std::uint32_t commits = 0;
  std::deque<IssuedProduct> pending;  ///< the oldest first; the last is number `issued`
  std::vector<std::shared_ptr<PendingSums>> sums;

  std::uint32_t oldest() const { return issued - static_cast<std::uint32_t>(pending.size()) + 1; }
};

/// Four warps that multiply together.
struct Warpgroup {
  int component = 0;  ///< in clocks: the products that are done
  std::deque<Product> products;
  std::uint32_t first = 1;       ///< the number of the oldest of them
  std::vector<Thread*> waiting;  ///< for others to issue

  Product& product(std::uint32_t number) { return products[number - first]; }
};

}  // namespace lutsmith::emulator
