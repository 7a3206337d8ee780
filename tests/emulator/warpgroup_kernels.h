#pragma once

#include <gmock/gmock.h>

#include <functional>
#include <string>

#include "primitive_kernels.h"

// Kernels that multiply zeros, with a mistake somewhere.

namespace lutsmith::emulator_test {

using namespace device;

constexpr int kGroup = 128;          // the warpgroup that multiplies; a warp more looks on
constexpr int kOperandBytes = 2048;  // 16 tokens of 64 k
constexpr int kOtherOperand = kOperandBytes;
constexpr int kBarrier = 2 * kOperandBytes;
constexpr int kFlag = kBarrier + 64;
constexpr GridShape kShape{.threads = kGroup + 32, .shared_bytes = kFlag + 64};

inline bool multiplies() { return thread_index() < kGroup; }

inline unsigned int* word_at(int byte) { return reinterpret_cast<unsigned int*>(dynamic_shared() + byte); }
inline Mbarrier* barrier() { return reinterpret_cast<Mbarrier*>(dynamic_shared() + kBarrier); }

/// What a thread of the warpgroup multiplies, and adds to.
struct Registers {
  unsigned int a[4] = {};
  float sums[8] = {};
  float others[8] = {};
};

inline void fill(int operand) {
  for (int word = thread_index(); multiplies() && word < kOperandBytes / 4; word += kGroup) {
    store_shared(word_at(operand + 4 * word), 0U);
  }
}

/// One product, from one wait to the next; the parts between which a mistake can stand.
inline void issue(Registers& registers, int operand = 0, bool accumulate = false) {
  multiply_async<Element::f16>(registers.sums, registers.a, describe_operand(dynamic_shared() + operand),
                               accumulate);
}

inline void begin_products() {
  fill(0);
  fill(kOtherOperand);
  fence_barrier_initialization();
  block_barrier();
}

using Step = std::function<void(Registers&)>;

/// The fault of a kernel that multiplies once, with something after each part, done by all threads of the
/// block.
struct Product {
  Step after_fence = [](Registers&) {};
  Step after_issue = [](Registers&) {};
  Step after_wait = [](Registers&) {};
  bool accumulate = false;

  std::string fault(const Regions& regions = {}) const {
    return fault_of(kShape, with_primitives([this] {
                      begin_products();
                      Registers registers;
                      if (multiplies()) fence_registers();
                      after_fence(registers);
                      if (multiplies()) issue(registers, 0, accumulate);
                      if (multiplies()) commit_products();
                      after_issue(registers);
                      if (multiplies()) wait_products<0>();
                      after_wait(registers);
                    }),
                    regions);
  }
};

/// The one at fault and its line come first. Where every thread makes the mistake, any may be the one.
inline auto is_fault_of_some_thread(const std::string& what) {
  return testing::ContainsRegex("^block 0, thread [0-9]+, line [1-9][0-9]*: .*" + what);
}
inline auto is_fault(int thread, const std::string& what) {
  return testing::ContainsRegex("^block 0, thread " + std::to_string(thread) + ", line [1-9][0-9]*: .*" +
                                what);
}

constexpr const char* kUnwrittenRegister = "uses a register that nothing was written to";

}  // namespace lutsmith::emulator_test
