// Copies of boxes of X by a tensor map, and who may start them.

#include "emulator/tensor_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "primitive_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using namespace device;
using emulator::describe_matrix;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr int kBoxRows = 24;
constexpr int kBoxBytes = kBoxRows * 128;
constexpr int kBarrier = 2 * 4096;
constexpr GridShape kShape{.threads = 64, .shared_bytes = kBarrier + 64};

/// X: 40 rows of 72 with 8 more between them; element (row, column) is 100 * row + column.
struct Activations {
  static constexpr int kRows = 40;
  static constexpr int kColumns = 72;
  static constexpr int kStride = 80;

  std::vector<std::uint16_t> values = std::vector<std::uint16_t>((kRows - 1) * kStride + kColumns);

  Activations() {
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = value(static_cast<int>(i) / kStride, static_cast<int>(i) % kStride);
  }
  static std::uint16_t value(int row, int column) { return static_cast<std::uint16_t>(100 * row + column); }

  TensorMap map() const { return describe_matrix(values.data(), kColumns, kRows, kStride, kBoxRows); }
  Regions regions() const {
    Regions regions;
    regions.activations = std::as_bytes(std::span(values));
    return regions;
  }
};

Mbarrier* barrier() { return reinterpret_cast<Mbarrier*>(dynamic_shared() + kBarrier); }

struct BoxCopy {
  int column = 0;
  int row = 0;
  int to = 0;
  unsigned int expected = kBoxBytes;
  bool fence = true;
  bool waits = true;
  bool dependent = false;
  bool waits_for_launch = true;
};

/// Thread 0 copies a box, and all look at what comes.
std::string fault_of_box(const BoxCopy& copy, const TensorMap& map, const Regions& regions,
                         const std::function<void(int row, int column, std::uint16_t)>& see = {}) {
  GridShape shape = kShape;
  shape.dependent_launch = copy.dependent;
  return fault_of(shape, with_primitives([&] {
                    if (thread_index() == 0) {
                      initialize_barrier(barrier(), 1);
                      if (copy.fence) fence_barrier_initialization();
                      prefetch_tensor_map(map);
                    }
                    block_barrier();
                    if (thread_index() == 0) {
                      if (copy.waits_for_launch) wait_for_dependency<true>();
                      arrive_expecting(barrier(), copy.expected);
                      copy_tensor(dynamic_shared() + copy.to, map, copy.column, copy.row, barrier());
                    }
                    block_barrier();
                    if (copy.waits) wait_barrier(barrier(), 0);
                    for (int i = thread_index(); i < kBoxBytes / 2; i += kShape.threads) {
                      const int row = i / 64;
                      const int column = i % 64;
                      const int byte = row * 128 + ((column / 8) ^ row % 8) * 16 + column % 8 * 2;
                      const auto value = load_shared(
                          reinterpret_cast<const unsigned short*>(dynamic_shared() + copy.to + byte));
                      if (see) see(row, column, value);
                    }
                  }),
                  regions);
}

TEST(TensorCopy, BringsABoxInTheSwizzledOrderAndZerosForWhatLiesOutside) {
  const Activations x;
  // Inside; ragged below, to the right, and both; outside; and ahead of the first row and column.
  for (const auto& [column, row] :
       {std::pair{0, 0}, {8, 16}, {0, 24}, {64, 8}, {64, 24}, {128, 0}, {0, 40}, {-8, -3}}) {
    SCOPED_TRACE("column " + std::to_string(column) + ", row " + std::to_string(row));
    int seen = 0;
    EXPECT_EQ(fault_of_box({.column = column, .row = row, .to = 4096}, x.map(), x.regions(),
                           [&](int r, int c, std::uint16_t value) {
                             const int at_row = row + r;
                             const int at_column = column + c;
                             const bool inside = at_row >= 0 && at_row < Activations::kRows &&
                                                 at_column >= 0 && at_column < Activations::kColumns;
                             EXPECT_EQ(value, inside ? Activations::value(at_row, at_column) : 0)
                                 << "row " << r << ", column " << c;
                             ++seen;
                           }),
              "");
    EXPECT_EQ(seen, kBoxBytes / 2);
  }
}

std::string fault_of_box(const BoxCopy& copy) {
  const Activations x;
  return fault_of_box(copy, x.map(), x.regions());
}

constexpr const char* kAtThread0 = "^block 0, thread 0, line [1-9][0-9]*: ";

TEST(TensorCopy, ByAMapThatNobodyMadeIsReported) {
  const Activations x;
  EXPECT_THAT(fault_of_box({}, TensorMap{}, x.regions()),
              ContainsRegex(std::string(kAtThread0) + "uses a tensor map that nobody has made"));
}

TEST(TensorCopy, OfAMatrixThatReachesBehindItsMemoryIsReported) {
  const Activations x;
  const TensorMap map = describe_matrix(x.values.data(), Activations::kColumns, Activations::kRows + 1,
                                        Activations::kStride, kBoxRows);
  EXPECT_THAT(fault_of_box({.row = 24}, map, x.regions()),
              ContainsRegex(std::string(kAtThread0) +
                            "touches 128 bytes at byte 6400 of the activations, whose size"));
}

TEST(TensorCopy, ToNoMultipleOf1024IsReported) {
  EXPECT_THAT(fault_of_box({.to = 512}),
              ContainsRegex(std::string(kAtThread0) +
                            "copies a box to shared byte 512, which is no multiple of 1024"));
}

TEST(TensorCopy, BehindTheBlocksMemoryIsReported) {
  EXPECT_THAT(fault_of_box({.to = 6144}),
              HasSubstr("touches 3072 bytes at shared byte 6144; the block has 8256"));
}

TEST(TensorCopy, CountsTheWholeBox) {
  EXPECT_EQ(fault_of_box({.row = 30, .expected = kBoxBytes}), "") << "zeros count too";
  EXPECT_THAT(fault_of_box({.expected = kBoxBytes - 128}), HasSubstr("128 bytes more than it expects"));
  EXPECT_THAT(fault_of_box({.expected = kBoxBytes + 128}), HasSubstr("deadlock"));
}

TEST(TensorCopy, ReadWithoutWaitingIsReported) {
  EXPECT_THAT(
      fault_of_box({.waits = false}),
      ContainsRegex("touches shared byte [0-9]+ while the copy issued at line [1-9][0-9]* is under way"));
}

TEST(TensorCopy, WithoutTheFenceOfItsMbarrierIsReported) {
  EXPECT_THAT(fault_of_box({.fence = false}), HasSubstr("before the fence of its initialisation"));
}

TEST(TensorCopy, BeforeTheWaitForTheLaunchBeforeIsReported) {
  EXPECT_EQ(fault_of_box({.dependent = true}), "");
  EXPECT_THAT(
      fault_of_box({.dependent = true, .waits_for_launch = false}),
      ContainsRegex(std::string(kAtThread0) + "reads what the launch before may write before it has waited"));
}

// The launch before, for which one thread waits.

/// Thread 0 waits for the launch before and tells thread 40 by way of `tell`, which then writes to Y.
std::string fault_of_store_behind(const std::function<void(bool waiter)>& tell) {
  Memory memory;
  return fault_of({.threads = 64, .shared_bytes = 64, .dependent_launch = true}, with_primitives([&] {
                    auto* const told = reinterpret_cast<Mbarrier*>(dynamic_shared());
                    if (thread_index() == 0) initialize_barrier(told, 1);
                    block_barrier();
                    if (thread_index() == 0) wait_for_dependency<true>();
                    if (thread_index() == 0) tell(true);
                    if (thread_index() == 40) tell(false);
                    if (thread_index() == 40) store_output(memory.output, 1);
                  }),
                  memory.regions());
}

TEST(DependentLaunch, WaitOfOneThreadIsEnoughForThoseAfterIt) {
  const auto at = [] { return reinterpret_cast<Mbarrier*>(dynamic_shared()); };
  EXPECT_EQ(fault_of_store_behind([&](bool waiter) { waiter ? arrive(at()) : wait_barrier(at(), 0); }), "");
  EXPECT_THAT(
      fault_of_store_behind([&](bool) {}),
      ContainsRegex("thread 40, line .*: writes what the launch before may use before it has waited for"));
}

TEST(DependentLaunch, WaitBehindTheBarrierIsNoneForThoseAfterIt) {
  Memory memory;
  EXPECT_THAT(fault_of({.threads = 64, .shared_bytes = 64, .dependent_launch = true}, with_primitives([&] {
                         block_barrier();
                         if (thread_index() == 0) wait_for_dependency<true>();
                         if (thread_index() == 40) store_output(memory.output, 1);
                       }),
                       memory.regions()),
              HasSubstr("thread 40"));
}

}  // namespace
}  // namespace lutsmith::emulator_test
