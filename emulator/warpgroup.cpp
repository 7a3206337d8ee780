#include "emulator/warpgroup.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "emulator/fault.h"
#include "emulator/grid_machine.h"
#include "emulator/tensor_core.h"

// The asynchronous product of a warpgroup. A product is issued thread by thread and done when the first
// thread waits for it, which is as late as B can be read; from the first issue to there nobody may write B.
// Sums reach each thread's array when that thread waits.
//
// That it is done is one more component of clocks, which every thread learns that waited for it: whoever is
// after one of them by a barrier may overwrite B, as on a GPU, where a product is done for all four warps or
// for none.

namespace lutsmith::emulator {
namespace {

constexpr int kRowBytes = 128;  // of a token: 64 k
constexpr int kSwizzledTokens = 8;
constexpr int kOctetBytes = kSwizzledTokens * kRowBytes;
constexpr int kPieceBytes = 16;

}  // namespace

OperandB OperandB::parse(std::uint64_t description, std::uint32_t shared_base) {
  constexpr std::uint64_t kAddress = (1u << 14) - 1;
  constexpr std::uint64_t kExpected =
      std::uint64_t{1} << 62 | std::uint64_t{kOctetBytes >> 4} << 32 | 1u << 16;
  if ((description & ~kAddress) != kExpected) {
    throw Fault(
        fmt::format("multiplies by what {:#x} describes: behind the address, describe_operand() gives {:#x}",
                    description, kExpected));
  }
  const auto address = static_cast<std::uint32_t>((description & kAddress) << 4);
  if (address % kOctetBytes >= kRowBytes || address % 32 != 0) {
    throw Fault(
        fmt::format("multiplies by what lies at shared address {}, which is no multiple of 1024, nor 32, 64 "
                    "or 96 more",
                    address));
  }
  return {address - shared_base};
}

std::size_t OperandB::piece(int token, int half) const {
  const std::size_t at =
      offset + static_cast<std::size_t>(token / kSwizzledTokens * kOctetBytes +
                                        token % kSwizzledTokens * kRowBytes + half * kPieceBytes);
  return at ^ at / kRowBytes % kSwizzledTokens * kPieceBytes;
}

Warpgroup& Grid::warpgroup() {
  const auto number = static_cast<std::size_t>(self().index / kWarpgroupThreads);
  if (number >= block().warpgroups.size()) {
    throw Fault("belongs to no warpgroup: four warps, the first of them with a multiple of 4 as its number");
  }
  return block().warpgroups[number];
}

void Grid::fence_registers() {
  warpgroup();
  self().products.fenced = true;
  self().products.at_fence.take(self().fiber->stack_end());
}

void Grid::multiply_async(float* d, int tokens, const unsigned int (&a)[4], unsigned long long b,
                          bool accumulate, bool bf16) {
  Warpgroup& group = warpgroup();
  ThreadProducts& mine = self().products;
  if (!mine.fenced) {
    throw Fault("multiplies without fence_registers() since it last waited for products, or at all");
  }
  check_integers(a, sizeof(a));
  if (!mine.at_fence.same(a, sizeof(a)))
    throw Fault("multiplies by an A that has changed since fence_registers()");
  const ProductCall call{b, tokens, accumulate, bf16 ? DataType::bf16 : DataType::f16, mine.commits};
  const std::uint32_t number = mine.issued + 1;
  if (number == group.first + group.products.size()) begin_product(group, call);
  Product& product = group.product(number);
  if (product.call != call) {
    throw Fault(
        fmt::format("issues another product than the first thread of its warpgroup did at line {}: operand "
                    "{:#x} of {} tokens, accumulate {}, after {} commits; that one: {:#x} of {}, {}, {}",
                    product.line, b, tokens, accumulate, call.commits, product.call.b, product.call.tokens,
                    product.call.accumulate, product.call.commits));
  }
  for (const SharedMemory::Source& source : product.sources) check_source(source);
  const auto thread = static_cast<std::size_t>(self().index % kWarpgroupThreads);
  std::ranges::copy(a, product.a[thread].begin());
  product.sums[thread] = pending_sums(d, tokens / 2, accumulate);
  product.sums[thread]->last_product = number;
  mine.pending.push_back({a, product.sums[thread]});
  ++mine.issued;
  ++self().uses;
  if (++product.issued < kWarpgroupThreads) return;
  for (Thread* const waiting : std::exchange(group.waiting, {})) block().make_ready(*waiting);
}

/// By the first thread that issues it.
void Grid::begin_product(Warpgroup& group, const ProductCall& call) {
  Product& product = group.products.emplace_back();
  product.call = call;
  product.line = line;
  product.b = OperandB::parse(call.b, block().shared.address(block().shared.data()));
  for (int token = 0; token < call.tokens; ++token) {
    for (const int half : {0, 1}) {
      block().shared.begin_product(product.b.piece(token, half), kPieceBytes, line, product.sources);
    }
  }
}

/// The thread knows of what the product reads, and so does the tensor core.
void Grid::check_source(const SharedMemory::Source& source) const {
  const Block& block = *self().block;
  block.shared.check_source(source, self().component, self().clock);
  const auto writer = static_cast<std::size_t>(source.writer.who - block.first_component);
  if (writer >= block.threads.size() || block.threads[writer].fenced_stores >= source.writer.count) return;
  throw Fault(fmt::format(
      "multiplies what thread {} stored at line {}, with no fence_barrier_initialization() behind "
      "the store",
      writer, source.writer.line));
}

/// Those of a product under way that has the same, or else taken out of the thread's array, which is
/// poisoned.
std::shared_ptr<PendingSums> Grid::pending_sums(float* d, int count, bool accumulate) {
  for (const auto& pending : self().products.sums) {
    if (pending->array == d && pending->values.size() == static_cast<std::size_t>(count)) return pending;
    if (d < pending->array + pending->values.size() && pending->array < d + count) {
      throw Fault(
          fmt::format("multiplies into sums of which others are part, of the product issued at line {}",
                      warpgroup().product(pending->last_product).line));
    }
  }
  if (accumulate) {
    check_floats(d, static_cast<std::size_t>(count));
    if (!self().products.at_fence.same(d, static_cast<std::size_t>(count) * sizeof(*d))) {
      throw Fault("adds to sums that have changed since fence_registers()");
    }
  }
  auto sums = std::make_shared<PendingSums>();
  sums->array = d;
  sums->values.assign(d, d + count);
  std::fill(d, d + count, std::bit_cast<float>(float_poison));
  self().products.sums.push_back(sums);
  return sums;
}

void Grid::commit_products() {
  warpgroup();
  ++self().products.commits;
}

void Grid::wait_products(int pending) {
  Warpgroup& group = warpgroup();
  ThreadProducts& mine = self().products;
  mine.fenced = false;
  std::uint32_t last = mine.oldest();  // the first that is not waited for
  const auto waits_for = [&](const Product& product) {
    return product.call.commits + static_cast<std::uint32_t>(pending) < mine.commits;
  };
  while (last <= mine.issued && waits_for(group.product(last))) ++last;
  check_registers(group, last);
  std::uint32_t words[1] = {last};
  collect("wait_products()", words, [](auto&) {});
  if (last == mine.oldest()) return;
  while (group.product(last - 1).issued < kWarpgroupThreads) {
    group.waiting.push_back(&self());
    wait("products that its warpgroup has not issued");
  }
  for (std::uint32_t number = mine.oldest(); number < last; ++number) {
    if (Product& product = group.product(number); !product.done)
      finish(product, {group.component, number, product.line, 0});
  }
  std::uint32_t& known = self().clock[static_cast<std::size_t>(group.component)];
  known = std::max(known, last - 1);
  hand_over(group, last);
}

/// Of all products before `last`: what the thread gave them is still there.
void Grid::check_registers(Warpgroup& group, std::uint32_t last) const {
  const ThreadProducts& mine = self().products;
  for (std::uint32_t number = mine.oldest(); number < last; ++number) {
    const IssuedProduct& issued = mine.pending[number - mine.oldest()];
    const Product& product = group.product(number);
    const auto& given = product.a[static_cast<std::size_t>(self().index % kWarpgroupThreads)];
    if (!std::equal(given.begin(), given.end(), issued.a)) {
      throw Fault(fmt::format("has changed A since the product issued at line {}, without waiting for it",
                              product.line));
    }
    const auto untouched = [&](const float& sum) {
      return std::bit_cast<std::uint32_t>(sum) == float_poison;
    };
    if (!std::all_of(issued.sums->array, issued.sums->array + issued.sums->values.size(), untouched)) {
      throw Fault(fmt::format("has written sums since the product issued at line {}, without waiting for it",
                              product.line));
    }
  }
}

/// Multiplies, and B is free.
void Grid::finish(Product& product, const Stamp& reader) {
  const DataType type = product.call.type;
  SharedMemory& shared = block().shared;
  std::vector<Depth16> tokens;  // not on the thread's stack, which is small
  for (int token = 0; token < product.call.tokens; ++token) {
    std::array<std::uint16_t, Depth16::kDepth> bits;
    for (const int half : {0, 1}) {
      const std::size_t piece = product.b.piece(token, half);
      std::memcpy(bits.data() + half * 8, shared.data() + piece, kPieceBytes);
      shared.end_product(piece, kPieceBytes, reader);
    }
    tokens.emplace_back(bits, type);
  }
  for (std::size_t first = 0; first < kWarpgroupThreads; first += kLanes) {
    std::array<std::array<std::uint32_t, 4>, kLanes> a;
    std::copy_n(product.a.begin() + static_cast<std::ptrdiff_t>(first), kLanes, a.begin());
    const std::array<Depth16, 16> rows = rows_of(a, type);
    for (int lane = 0; lane < kLanes; ++lane) {
      std::vector<float>& sums = product.sums[first + static_cast<std::size_t>(lane)]->values;
      for (std::size_t i = 0; i < sums.size(); ++i) {
        const FragmentPlace at = place_in_d(lane, static_cast<int>(i % 4));
        const float before = product.call.accumulate ? sums[i] : 0.0F;
        sums[i] =
            Depth16::multiply_add(before, rows[static_cast<std::size_t>(at.row)],
                                  tokens[i / 4 * kSwizzledTokens + static_cast<std::size_t>(at.column)]);
      }
    }
  }
  product.done = true;
}

/// The thread has waited for all products before `last`: sums that no later one belongs to are its again.
void Grid::hand_over(Warpgroup& group, std::uint32_t last) {
  ThreadProducts& mine = self().products;
  std::erase_if(mine.sums, [&](const std::shared_ptr<PendingSums>& sums) {
    if (sums->last_product >= last) return false;
    std::ranges::copy(sums->values, sums->array);
    return true;
  });
  while (mine.oldest() < last) {
    ++group.product(mine.oldest()).waited;
    mine.pending.pop_front();
  }
  while (!group.products.empty() && group.products.front().waited == kWarpgroupThreads) {
    group.products.pop_front();
    ++group.first;
  }
}

}  // namespace lutsmith::emulator
