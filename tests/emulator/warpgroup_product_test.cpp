// The asynchronous products of a warpgroup: the numbers they give.

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "lutsmith/float16.h"
#include "primitive_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using namespace device;

constexpr int kRows = 64;
constexpr int kDepth = 64;
constexpr int kSteps = kDepth / 16;
constexpr int kThreads = 128;

/// A [kRows][kDepth], B [tokens][kDepth], and what is added to [kRows][tokens].
struct Matrices {
  DataType type;
  int tokens;
  std::vector<std::uint16_t> a = std::vector<std::uint16_t>(kRows * kDepth);
  std::vector<std::uint16_t> b = std::vector<std::uint16_t>(static_cast<std::size_t>(tokens) * kDepth);

  Matrices(DataType wanted, int n) : type(wanted), tokens(n) {
    std::mt19937 random(static_cast<unsigned int>(n));
    std::normal_distribution<float> values;
    for (auto* const matrix : {&a, &b}) {
      for (std::uint16_t& bits : *matrix) bits = to_bits(values(random), type);
    }
  }

  const std::uint16_t* row_of_a(int row) const { return a.data() + row * kDepth; }
  const std::uint16_t* row_of_b(int token) const { return b.data() + token * kDepth; }
};

/// All threads write B as the copy engine would.
void store_operand(unsigned char* to, const Matrices& matrices) {
  for (int i = thread_index(); i < matrices.tokens * 8; i += kThreads) {
    const int token = i / 8;
    const int piece = i % 8;
    uint4 value;
    std::memcpy(&value, matrices.row_of_b(token) + piece * 8, sizeof(value));
    store_shared(reinterpret_cast<uint4*>(to + token * 128 + (piece ^ token % 8) * 16), value);
  }
  fence_barrier_initialization();
}

/// The A registers of a step of 16 k, in the fragments that PTX draws.
void load_registers(unsigned int (&a)[4], const Matrices& matrices, int step) {
  const int lane = thread_index() % 32;
  for (int r = 0; r < 4; ++r) {
    const int row = thread_index() / 32 * 16 + lane / 4 + r % 2 * 8;
    std::memcpy(&a[r], matrices.row_of_a(row) + step * 16 + lane % 4 * 2 + r / 2 * 8, sizeof(a[r]));
  }
}

/// d = before + A * B, as each thread holds it, of which `before` says what it has in d before.
template <Element kElement, std::size_t kSums>
std::vector<float> multiplied(const Matrices& matrices, float before, bool accumulate) {
  constexpr int kTokens = 2 * static_cast<int>(kSums);
  std::vector<float> result(static_cast<std::size_t>(kRows * kTokens));
  const GridShape shape{.threads = kThreads, .shared_bytes = kTokens * 128};
  const std::string fault =
      fault_of(shape, with_primitives([&] {
                 store_operand(dynamic_shared(), matrices);
                 block_barrier();
                 unsigned int a[kSteps][4];
                 for (int step = 0; step < kSteps; ++step) load_registers(a[step], matrices, step);
                 float d[kSums];
                 for (float& sum : d) sum = before;
                 const unsigned long long operand = describe_operand(dynamic_shared());
                 fence_registers();
                 for (int step = 0; step < kSteps; ++step) {
                   multiply_async<kElement>(d, a[step], operand + 2 * static_cast<unsigned int>(step),
                                            accumulate || step > 0);
                 }
                 commit_products();
                 wait_products<0>();
                 const int lane = thread_index() % 32;
                 for (int i = 0; i < static_cast<int>(kSums); ++i) {
                   const int row = thread_index() / 32 * 16 + lane / 4 + i % 4 / 2 * 8;
                   const int token = i / 4 * 8 + lane % 4 * 2 + i % 2;
                   result[static_cast<std::size_t>(row * kTokens + token)] = d[i];
                 }
               }));
  EXPECT_EQ(fault, "");
  return result;
}

template <Element kElement, int kTokens>
void expect_right() {
  SCOPED_TRACE(std::to_string(kTokens) + " tokens");
  const Matrices matrices(kElement == Element::bf16 ? DataType::bf16 : DataType::f16, kTokens);
  for (const bool accumulate : {false, true}) {
    const float before = 3.5F;
    const std::vector<float> result =
        multiplied<kElement, static_cast<std::size_t>(kTokens) / 2>(matrices, before, accumulate);
    for (int row = 0; row < kRows; ++row) {
      for (int token = 0; token < kTokens; ++token) {
        double expected = accumulate ? before : 0;
        double magnitude = std::abs(expected);
        for (int k = 0; k < kDepth; ++k) {
          const double product = static_cast<double>(from_bits(matrices.row_of_a(row)[k], matrices.type)) *
                                 from_bits(matrices.row_of_b(token)[k], matrices.type);
          expected += product;
          magnitude += std::abs(product);
        }
        // Each step cuts 17 terms two bits below an fp32 significand, and their sum at it.
        const double most = kSteps * (17.0 / 4 + 1) * 0x1p-23 * magnitude;
        ASSERT_NEAR(result[static_cast<std::size_t>(row * kTokens + token)], expected, most)
            << "row " << row << ", token " << token;
      }
    }
  }
}

template <Element kElement>
void expect_right_in_every_width() {
  expect_right<kElement, 16>();
  expect_right<kElement, 32>();
  expect_right<kElement, 48>();
  expect_right<kElement, 64>();
  expect_right<kElement, 96>();
  expect_right<kElement, 128>();
  expect_right<kElement, 160>();
  expect_right<kElement, 192>();
  expect_right<kElement, 256>();
}

TEST(WarpgroupProduct, OfF16IsTheProductInEveryWidth) { expect_right_in_every_width<Element::f16>(); }
TEST(WarpgroupProduct, OfBf16IsTheProductInEveryWidth) { expect_right_in_every_width<Element::bf16>(); }

}  // namespace
}  // namespace lutsmith::emulator_test
