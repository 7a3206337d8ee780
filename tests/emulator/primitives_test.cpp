// Primitives that move and change a few registers, and what waits: what they give, and what they find wrong.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <set>
#include <string>

#include "lutsmith/float16.h"
#include "nearest.h"
#include "primitive_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using namespace device;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

std::string fault_of_warp(const std::function<void()>& body, const Regions& regions = {}) {
  return fault_of(kWarp, with_primitives(body), regions);
}

// Lanes and bytes.

TEST(Primitives, LanesExchangeWithThoseThatDifferInTheMask) {
  for (const int mask : {1, 2, 3, 16}) {
    EXPECT_EQ(fault_of_warp([mask] {
                const auto lane = static_cast<unsigned int>(thread_index());
                EXPECT_EQ(exchange_lanes(100 + lane, mask), 100 + (lane ^ static_cast<unsigned int>(mask)));
              }),
              "");
  }
}

TEST(Primitives, WarpsAreCountedFromZero) {
  EXPECT_EQ(fault_of({.threads = 96},
                     with_primitives([] { EXPECT_EQ(uniform_warp_index(), thread_index() / 32); })),
            "");
}

TEST(Primitives, BytesAreSelectedByThreeBitsOfANibble) {
  EXPECT_EQ(select_bytes(0x33221100, 0x77665544, 0x3210), 0x33221100U);
  EXPECT_EQ(select_bytes(0x33221100, 0x77665544, 0x5410), 0x55441100U);
  EXPECT_EQ(select_bytes(0x33221100, 0x77665544, 0x3276), 0x33227766U);
  EXPECT_EQ(select_bytes(0x33221100, 0x77665544, 0xfedc), 0x77665544U) << "the fourth bit does not count";
}

// Products of pairs.

/// Of the two 16-bit numbers next to the exact product, and of even ones where it lies between them.
void expect_nearest(std::uint16_t a, std::uint16_t b, std::uint16_t product, DataType type) {
  const double exact = static_cast<double>(from_bits(a, type)) * from_bits(b, type);
  const double error = std::abs(from_bits(product, type) - exact);
  ASSERT_TRUE(std::isfinite(exact));
  for (const int step : {-1, 1}) {
    const auto neighbour = static_cast<std::uint16_t>(product + step);
    if ((neighbour & 0x7fff) == 0x7fff || !std::isfinite(from_bits(neighbour, type))) continue;
    const double other = std::abs(from_bits(neighbour, type) - exact);
    EXPECT_LE(error, other) << a << " times " << b;
    if (error == other) {
      EXPECT_EQ(product % 2, 0) << a << " times " << b;
    }
  }
}

template <Element kElement>
void expect_nearest_products(DataType type, std::uint16_t first_exponent_bits) {
  EXPECT_EQ(fault_of_warp([=] {
              std::mt19937 random(static_cast<unsigned int>(thread_index()));
              for (int i = 0; i < 200; ++i) {
                // One factor of any finite size up to 1, so that many products are subnormal and none
                // overflows.
                const auto small = [&] { return static_cast<std::uint16_t>(random() % first_exponent_bits); };
                const std::array<std::uint16_t, 4> factors = {small(), small(), small(), small()};
                const unsigned int product = multiply_pairs<kElement>(
                    factors[0] | static_cast<unsigned int>(factors[1]) << 16 | 0x8000U,
                    factors[2] | static_cast<unsigned int>(factors[3]) << 16);
                expect_nearest(factors[0] | 0x8000U, factors[2], static_cast<std::uint16_t>(product), type);
                expect_nearest(factors[1], factors[3], static_cast<std::uint16_t>(product >> 16), type);
              }
            }),
            "");
}

TEST(Primitives, PairsAreMultipliedAndRoundedToNearestEven) {
  expect_nearest_products<Element::f16>(DataType::f16, to_bits(1.0F, DataType::f16));
  expect_nearest_products<Element::bf16>(DataType::bf16, to_bits(1.0F, DataType::bf16));
}

// A product a little above the middle of two numbers, by less than fp32 can tell.
TEST(Primitives, ProductThatWouldBeRoundedTwiceIsRoundedOnce) {
  EXPECT_EQ(fault_of_warp([] {
              const auto product = [](float a, float b) {
                return multiply_pairs<Element::bf16>(to_bits(a, DataType::bf16), to_bits(b, DataType::bf16));
              };
              // 129 * 2^-133 is subnormal with 1 bit behind the middle of two multiples of 2^-133 once it is
              // halved.
              EXPECT_EQ(product(0x1p-126F, 0x1.02p-8F),
                        0x0001U);                               // 1.0078 * 2^-134: just above half of 2^-133
              EXPECT_EQ(product(0x1p-126F, 0x1p-8F), 0x0000U);  // the middle: to even
            }),
            "");
}

TEST(Primitives, PairsAreMultipliedAndAddedWithOneRounding) {
  for (const DataType type : {DataType::f16, DataType::bf16}) {
    EXPECT_EQ(fault_of_warp([=] {
                std::mt19937 random(static_cast<unsigned int>(thread_index()));
                std::uniform_real_distribution<float> number(-2, 2);
                for (int i = 0; i < 200; ++i) {
                  const auto drawn = [&] {
                    const std::uint16_t bits = to_bits(number(random), type);
                    return bits == 0xbeef ? std::uint16_t{0} : bits;  // what nobody wrote
                  };
                  const std::array<std::uint16_t, 6> given = {drawn(), drawn(), drawn(),
                                                              drawn(), drawn(), drawn()};
                  const auto pair = [&](std::size_t at) {
                    return given[at] | static_cast<unsigned int>(given[at + 1]) << 16;
                  };
                  const unsigned int sum = type == DataType::f16
                                               ? multiply_add_pairs<Element::f16>(pair(0), pair(2), pair(4))
                                               : multiply_add_pairs<Element::bf16>(pair(0), pair(2), pair(4));
                  for (const std::size_t half : {0U, 1U}) {
                    const double exact =
                        static_cast<double>(from_bits(given[half], type)) * from_bits(given[2 + half], type) +
                        from_bits(given[4 + half], type);
                    EXPECT_EQ(static_cast<std::uint16_t>(sum >> 16 * half), test::nearest(exact, type));
                  }
                }
              }),
              "");
  }
}

// 1141 * 1838 = 2^21 + 6, so the sum lies above the middle of 1 and the next number, by less than fp32 can
// tell from it.
TEST(Primitives, SumThatWouldBeRoundedTwiceIsRoundedOnce) {
  EXPECT_EQ(fault_of_warp([] {
              const auto bits = [](float value) -> unsigned int { return to_bits(value, DataType::f16); };
              const float a = 1141 * 0x1p-22F;
              const float b = 1838 * 0x1p-10F;
              EXPECT_EQ(multiply_add_pairs<Element::f16>(bits(a), bits(b), bits(1)) & 0xffffU, bits(1) + 1);
              EXPECT_EQ(bits(std::fma(a, b, 1.0F)), bits(1)) << "no case in point";
            }),
            "");
}

TEST(Primitives, PairThatNobodyWroteIsReported) {
  EXPECT_THAT(fault_of_warp([] {
                const unsigned int unwritten = emulator::machine(__LINE__).integer_poison;
                store_shared(reinterpret_cast<unsigned int*>(dynamic_shared()),
                             multiply_pairs<Element::f16>(unwritten, 0x3c003c00U));
              }),
              ContainsRegex("thread 0, line [1-9][0-9]*: uses a register that nothing was written to"));
}

// stmatrix.

TEST(Primitives, StmatrixStoresColumnsWhereTheirLaneSays) {
  EXPECT_EQ(fault_of_warp([] {
              const int lane = thread_index();
              // Element (row, column) of matrix i is 1000 * i + 10 * row + column.
              unsigned int matrices[4];
              for (unsigned int i = 0; i < 4; ++i) {
                const auto first = 1000 * i + 10 * static_cast<unsigned int>(lane / 4) +
                                   2 * static_cast<unsigned int>(lane % 4);
                matrices[i] = first | (first + 1) << 16;
              }
              store_matrices_transposed(dynamic_shared() + lane * 16, matrices);
              warp_barrier();
              for (int matrix = 0; matrix < 4; ++matrix) {
                for (int row = 0; row < 8; ++row) {
                  const int column = lane % 8;
                  const auto* const at = dynamic_shared() + (matrix * 8 + column) * 16 + row * 2;
                  EXPECT_EQ(load_shared(reinterpret_cast<const unsigned short*>(at)),
                            1000 * matrix + 10 * row + column);
                }
              }
            }),
            "");
}

TEST(Primitives, StmatrixOfUnwrittenRegistersOrToOddPlacesIsReported) {
  const auto fault = [](bool written, int offset) {
    return fault_of_warp([=] {
      const unsigned int value = written ? 1 : emulator::machine(__LINE__).integer_poison;
      const unsigned int matrices[4] = {1, 1, 1, value};
      store_matrices_transposed(dynamic_shared() + thread_index() * 16 + offset, matrices);
    });
  };
  EXPECT_EQ(fault(true, 0), "");
  EXPECT_THAT(fault(false, 0), HasSubstr("uses a register that nothing was written to"));
  EXPECT_THAT(fault(true, 8), HasSubstr("which is no multiple of 16"));
}

// Vectors in global memory.

TEST(Primitives, FourPartialSumsAreCheckedOneByOne) {
  const auto fault = [](int written, bool misaligned) {
    alignas(16) float sums[8] = {};
    Regions regions;
    regions.partial_sums = std::as_writable_bytes(std::span(sums));
    return fault_of_warp(
        [&] {
          if (thread_index() != 0) return;
          store_partial_sums_4(sums, {1, 2, 3, 4});
          for (int i = 4; i < written; ++i) store_partial_sum(sums + i, static_cast<float>(i));
          const float4 loaded = load_partial_sums_4(sums + (misaligned ? 2 : 0), true);
          EXPECT_EQ(loaded.w, 4.0F);
          EXPECT_EQ(load_partial_sums_4(sums + 4, true).w, 7.0F);
          EXPECT_EQ(load_partial_sums_4(nullptr, false).w, 0.0F);
        },
        regions);
  };
  EXPECT_EQ(fault(8, false), "");
  EXPECT_THAT(fault(7, false), HasSubstr("reads partial sum 7, which nobody has written"));
  EXPECT_THAT(fault(8, true), HasSubstr("an address that is no multiple of 16"));
}

TEST(Primitives, OutputWrittenEightAtATimeIsWrittenOnce) {
  const auto fault = [](int again) {
    alignas(16) std::uint16_t output[16] = {};
    Regions regions;
    regions.output = std::as_writable_bytes(std::span(output));
    return fault_of_warp(
        [&] {
          if (thread_index() != 0) return;
          store_output_16(output, make_uint4(1, 2, 3, 4));
          store_output(output + again, 5);
        },
        regions);
  };
  EXPECT_EQ(fault(8), "");
  EXPECT_THAT(fault(7), HasSubstr("writes element 7 of the output a second time"));
}

// Mbarriers that count no bytes, and a ring's empty stages.

/// Thread 0 fills a stage twice; 31 lanes read it and release it.
std::string fault_of_ring(bool releases, bool waits_for_release) {
  return fault_of_warp([=] {
    auto* const full = reinterpret_cast<Mbarrier*>(dynamic_shared() + 64);
    auto* const empty = full + 1;
    auto* const stage = reinterpret_cast<unsigned int*>(dynamic_shared());
    if (thread_index() == 0) {
      initialize_barrier(full, 1);
      initialize_barrier(empty, 31);
    }
    warp_barrier();
    for (unsigned int round = 0; round < 3; ++round) {
      if (thread_index() == 0) {
        // Before the first round nothing was released: the phase before the first counts as complete.
        if (waits_for_release || round == 0) wait_barrier(empty, (round & 1U) ^ 1U);
        store_shared(stage, round);
        arrive(full);
      } else {
        wait_barrier(full, round & 1U);
        const unsigned int seen = load_shared(stage);
        EXPECT_TRUE(seen == round || !waits_for_release) << seen;
        if (releases) arrive(empty);
      }
    }
  });
}

TEST(Primitives, RingOfMbarriersOrdersItsProducerAndItsReaders) {
  EXPECT_EQ(fault_of_ring(true, true), "");
  EXPECT_THAT(fault_of_ring(false, true), HasSubstr("deadlock"));
  EXPECT_THAT(fault_of_ring(true, false),
              ContainsRegex("reads shared byte 0 that thread 0 wrote at line [1-9][0-9]*"));
}

TEST(Primitives, PhaseBeforeTheFirstIsNotWaitedForTwice) {
  EXPECT_THAT(fault_of_warp([] {
                if (thread_index() != 0) return;
                auto* const empty = reinterpret_cast<Mbarrier*>(dynamic_shared());
                initialize_barrier(empty, 1);
                wait_barrier(empty, 1);
                wait_barrier(empty, 1);
              }),
              HasSubstr("waits for a phase of an mbarrier that was complete at its last wait"));
}

// Named barriers.

TEST(Primitives, NamedBarrierThatNoBlockHasIsReported) {
  const auto fault = [](int id, int threads) {
    return fault_of(kTwoWarps, with_primitives([=] { named_barrier(id, threads); }));
  };
  EXPECT_EQ(fault(1, 64), "");
  EXPECT_EQ(fault(15, 32), "");
  for (const int id : {0, 16, -1}) EXPECT_THAT(fault(id, 64), HasSubstr("allowed: 1 to 15")) << id;
  for (const int threads : {0, 48, 96}) {
    EXPECT_THAT(fault(1, threads),
                AllOf(HasSubstr("thread 0, line"), HasSubstr("multiples of 32 up to the block's 64")))
        << threads;
  }
}

TEST(Primitives, NamedBarrierOfTwoSizesIsReported) {
  EXPECT_THAT(
      fault_of(kTwoWarps, with_primitives([] { named_barrier(1, thread_index() < 32 ? 64 : 32); })),
      ContainsRegex(
          "thread 32, line [1-9][0-9]*: is at named barrier 1 of 32 threads, where others wait for 64"));
}

}  // namespace
}  // namespace lutsmith::emulator_test
