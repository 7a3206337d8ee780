#include "emulator/grid_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "core/rounded_once.h"
#include "emulator/fault.h"
#include "emulator/tensor_core.h"
#include "emulator/tensor_map.h"
#include "lutsmith/float16.h"

namespace lutsmith::emulator {
namespace {

constexpr std::size_t kCopyAlignment = 16;
constexpr const char* kUnwritten = "uses a register that nothing was written to";

DataType type_of(bool bf16) { return bf16 ? DataType::bf16 : DataType::f16; }

}  // namespace

float Grid::to_float(unsigned short bits, bool bf16) const {
  check_integers(&bits, sizeof(bits));
  return from_bits(bits, type_of(bf16));
}

unsigned short Grid::from_float(float value, bool bf16) const {
  check_floats(&value, 1);
  return to_bits(value, type_of(bf16));
}

// The hardware's are right to 2 units of the last place, and no bit of a kernel's result may rest on more.

float Grid::exp2(float value) const {
  check_floats(&value, 1);
  const float power = std::exp2(value);
  return std::isnormal(power) || !std::isfinite(power) ? power : 0.0F;
}

float Grid::reciprocal(float value) const {
  check_floats(&value, 1);
  if (value == 0.0F || std::fpclassify(value) == FP_SUBNORMAL) {
    return std::copysign(std::numeric_limits<float>::infinity(), value);
  }
  const float inverse = 1 / value;
  return std::fpclassify(inverse) == FP_SUBNORMAL ? std::copysign(0.0F, inverse) : inverse;
}

void Grid::meet(Meeting& meeting, std::size_t expected, const char* what) {
  if (meeting.arrived.empty()) meeting.line = line;
  if (meeting.line != line) {
    throw Fault(fmt::format("is at another of {} than the threads that wait at line {}", what, meeting.line));
  }
  meeting.arrived.push_back(&self());
  if (meeting.arrived.size() < expected) return wait(what);
  const std::vector<Thread*> arrived = std::exchange(meeting.arrived, {});
  Block::join(arrived);
  for (Thread* const thread : arrived) {
    if (thread != &self()) block().make_ready(*thread);
  }
}

void Grid::named_barrier(int id, int threads) {
  const int all = static_cast<int>(block().threads.size());
  if (id < 1 || id > 15 || threads < kLanes || threads % kLanes != 0 || threads > all) {
    throw Fault(
        fmt::format("is at named barrier {} of {} threads; allowed: 1 to 15, and multiples of 32 up to the "
                    "block's {}",
                    id, threads, all));
  }
  const auto expected = static_cast<std::size_t>(threads);
  Meeting& meeting = block().barriers[id];
  if (meeting.arrived.empty()) meeting.expected = expected;
  if (meeting.expected != expected) {
    throw Fault(fmt::format("is at named barrier {} of {} threads, where others wait for {}", id, threads,
                            meeting.expected));
  }
  check_met_before(id, meeting);
  if (meeting.arrived.size() + 1 == expected) {
    meeting.before = {stamp()};
    for (const Thread* const thread : meeting.arrived) meeting.before.push_back(thread->stamp(thread->line));
    // bar.sync waits for what each has asked for. Nothing needs that of the block's barrier, which stays
    // stricter.
    ++self().uses;
    for (Thread* const thread : meeting.arrived) ++thread->uses;
  }
  meet(meeting, expected, "a named barrier");
}

/// Whoever was not among those who met here last knows that they have: else it could as well have come among
/// them. A single warp comes all at once.
void Grid::check_met_before(int id, const Meeting& meeting) const {
  if (std::max(meeting.before.size(), meeting.expected) <= kLanes) return;
  for (const Stamp& other : meeting.before) {
    if (happened_before(other, self().clock)) continue;
    throw Fault(
        fmt::format("is at named barrier {}, where thread {} met others at line {}, with nothing that orders "
                    "the two",
                    id, other.who - block().first_component, other.line));
  }
}

void Grid::change_registers(bool claim, int registers) {
  const RegisterPool::Call call{claim, registers, line};
  block().registers.check(self().index, call);
  while (!block().registers.take(self().index, call)) {
    block().claiming.push_back(&self());
    wait("registers that others give up");
  }
  if (!claim) block().wake_claiming();
}

unsigned int Grid::ballot(bool predicate) {
  std::uint32_t word = predicate ? 1 : 0;
  collect("a vote", std::span(&word, 1), [](auto& words) {
    std::uint32_t votes = 0;
    for (int i = 0; i < kLanes; ++i) votes |= words[static_cast<std::size_t>(i)][0] << i;
    for (auto& mine : words) mine[0] = votes;
  });
  return word;
}

unsigned int Grid::shuffle(unsigned int value, int from_lane) {
  std::uint32_t words[2] = {value, static_cast<std::uint32_t>(from_lane) % kLanes};
  collect("a shuffle", words, [](auto& all) {
    std::array<std::uint32_t, kLanes> values;
    for (std::size_t i = 0; i < kLanes; ++i) values[i] = all[all[i][1]][0];
    for (std::size_t i = 0; i < kLanes; ++i) all[i][0] = values[i];
  });
  ++self().uses;
  return words[0];
}

void Grid::load_matrices(unsigned int (&to)[4], const void* row) {
  // Lane l reads its row (8 elements of 16 bits) and gives each word of it to the lane that PTX names.
  std::uint32_t words[4];
  load_shared(words, row, sizeof(words));
  collect("ldmatrix", words, [](auto& all) {
    const auto rows = all;
    for (std::size_t i = 0; i < kLanes; ++i) {
      for (std::size_t matrix = 0; matrix < 4; ++matrix) all[i][matrix] = rows[matrix * 8 + i / 4][i % 4];
    }
  });
  std::ranges::copy(words, to);
}

void Grid::load_matrices_transposed(unsigned int (&to)[4], const void* column) {
  // Lane l reads column l % 8 of matrix l / 8; of its row r, lane 4 * r + column / 2 gets that half of its
  // word.
  std::uint32_t words[4];
  load_shared(words, column, sizeof(words));
  collect("ldmatrix", words, [](auto& all) {
    const auto columns = all;
    for (std::size_t i = 0; i < kLanes; ++i) {
      const std::size_t row = i / 4;
      for (std::size_t matrix = 0; matrix < 4; ++matrix) {
        const auto element = [&](std::size_t at) {
          return columns[matrix * 8 + at][row / 2] >> 16 * (row % 2) & 0xffff;
        };
        all[i][matrix] = element(i % 4 * 2) | element(i % 4 * 2 + 1) << 16;
      }
    }
  });
  std::ranges::copy(words, to);
}

void Grid::store_matrices_transposed(void* column, const unsigned int (&matrices)[4]) {
  // Lane l gets column l % 8 of matrix l / 8: of its row r, lane 4 * r + column / 2 has that half of its
  // word.
  check_integers(matrices, sizeof(matrices));
  std::uint32_t words[4];
  std::ranges::copy(matrices, words);
  collect("stmatrix", words, [](auto& all) {
    const auto rows = all;
    for (std::size_t i = 0; i < kLanes; ++i) {
      const auto half = [&](std::size_t row) {
        return rows[4 * row + i % 8 / 2][i / 8] >> 16 * (i % 2) & 0xffff;
      };
      for (std::size_t w = 0; w < 4; ++w) all[i][w] = half(2 * w) | half(2 * w + 1) << 16;
    }
  });
  block().shared.store(column, words, sizeof(words), stamp(), self().clock);
}

void Grid::multiply_accumulate(float (&d)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1,
                               bool bf16) {
  std::uint32_t words[10];
  std::ranges::copy(a, words);
  words[4] = b0;
  words[5] = b1;
  for (std::size_t c = 0; c < 4; ++c) words[6 + c] = std::bit_cast<std::uint32_t>(d[c]);
  check_integers(words, 6 * sizeof(std::uint32_t));
  check_floats(d, 4);
  collect("mma", words, [&](auto& all) {
    MmaFragments fragments;
    for (std::size_t i = 0; i < kLanes; ++i) {
      std::copy_n(all[i].begin(), 4, fragments.a[i].begin());
      std::copy_n(all[i].begin() + 4, 2, fragments.b[i].begin());
      for (std::size_t c = 0; c < 4; ++c) fragments.d[i][c] = std::bit_cast<float>(all[i][6 + c]);
    }
    emulator::multiply_accumulate(fragments, type_of(bf16));
    for (std::size_t i = 0; i < kLanes; ++i) {
      for (std::size_t c = 0; c < 4; ++c) all[i][6 + c] = std::bit_cast<std::uint32_t>(fragments.d[i][c]);
    }
  });
  for (std::size_t c = 0; c < 4; ++c) d[c] = std::bit_cast<float>(words[6 + c]);
  ++self().uses;
}

unsigned short Grid::multiply(unsigned short a, unsigned short b, bool bf16) {
  check_integers(&a, sizeof(a));
  ++self().uses;
  const double exact = static_cast<double>(from_bits(a, type_of(bf16))) * from_bits(b, type_of(bf16));
  return to_bits(core::float_to_odd(exact), type_of(bf16));
}

unsigned short Grid::multiply_add(unsigned short a, unsigned short b, unsigned short c, bool bf16) {
  for (const unsigned short& value : {a, b, c}) check_integers(&value, sizeof(value));
  ++self().uses;
  const double exact = static_cast<double>(from_bits(a, type_of(bf16))) * from_bits(b, type_of(bf16));
  return to_bits(core::float_to_odd(core::sum_to_odd(exact, from_bits(c, type_of(bf16)))), type_of(bf16));
}

/// Values that the host compiler put into variables nobody initialised: of 32 bits, and a last one of 16.
void Grid::check_integers(const void* values, std::size_t bytes) const {
  if (!has_integer_poison) return;
  for (std::size_t i = 0; i < bytes; i += sizeof(std::uint32_t)) {
    const std::size_t size = std::min(sizeof(std::uint32_t), bytes - i);
    if (std::memcmp(static_cast<const char*>(values) + i, &integer_poison, size) == 0) {
      throw Fault(kUnwritten);
    }
  }
}

void Grid::check_floats(const float* values, std::size_t count) const {
  for (std::size_t i = 0; i < count; ++i) {
    if (has_float_poison && std::bit_cast<std::uint32_t>(values[i]) == float_poison) throw Fault(kUnwritten);
  }
}

void Grid::report_unwritten() const { throw Fault(kUnwritten); }

/// One thread waits for the whole grid: it suffices to be after one of the block's that has.
void Grid::check_dependency(const char* what) const {
  const auto known = [&](const Stamp& wait) { return happened_before(wait, self().clock); };
  if (!self().dependency_met) self().dependency_met = std::ranges::any_of(block().dependency_waits, known);
  if (!self().dependency_met) {
    throw Fault(fmt::format("{} before it has waited for the launch before", what));
  }
}

void Grid::load_global(Region region, void* to, const void* from, int bytes) {
  if (region != Region::weights && region != Region::bias)
    check_dependency("reads what the launch before may write");
  global_.load(region, to, from, static_cast<std::size_t>(bytes), actor());
}

void Grid::store_global(Region region, void* to, const void* from, int bytes) {
  check_dependency("writes what the launch before may use");
  check_integers(from, static_cast<std::size_t>(bytes));
  global_.store(region, to, from, static_cast<std::size_t>(bytes), actor());
}

unsigned int Grid::count_arrival(unsigned int* counter) {
  check_dependency("counts its arrival");
  const std::uint32_t before = global_.count_arrival(counter, actor(), self().foreign);
  if (shape_.cluster_blocks > 1) {
    const auto own = self().foreign.find(cluster().index);  // what others of the cluster have released there
    if (own != self().foreign.end()) learn(self().clock, *own->second);
  }
  self().release();
  return before;
}

void Grid::begin_copy(Block& in, void* to, std::size_t bytes, int storer) {
  const auto known_uses = [&](int thread) {
    return self().known_uses(in.threads[static_cast<std::size_t>(thread)]);
  };
  in.shared.begin_copy(to, bytes, stamp(), self().clock, known_uses, storer);
}

void Grid::copy_async(void* to, const void* from, int bytes) {
  global_.check_copy(Region::weights, from, static_cast<std::size_t>(bytes), kCopyAlignment);
  begin_copy(to, static_cast<std::size_t>(bytes));
  self().open_copies.push_back({to, from, static_cast<std::size_t>(bytes)});
}

void Grid::copy_activations_async(void* to, const void* from, bool present) {
  static constexpr std::array<std::byte, 16> kZeros{};
  if (present) {
    check_dependency("reads what the launch before may write");
    global_.check_copy(Region::activations, from, kZeros.size(), kCopyAlignment);
  }
  begin_copy(to, kZeros.size());
  self().open_copies.push_back({to, present ? from : kZeros.data(), kZeros.size()});
}

void Grid::commit_copies() { self().committed_copies.push_back(std::exchange(self().open_copies, {})); }

void Grid::wait_copies(int pending) {
  while (self().committed_copies.size() > static_cast<std::size_t>(pending)) {
    deliver(self().committed_copies.front());
    self().committed_copies.pop_front();
  }
}

void Grid::deliver(const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) block().shared.end_copy(copy.to, copy.from, copy.bytes, stamp());
}

void Grid::initialize_barrier(unsigned long long* barrier, int arrivals) {
  if (arrivals < 1) {
    throw Fault(fmt::format("initialises an mbarrier with {} arrivals; 1 or more are allowed", arrivals));
  }
  auto& barriers = block().mbarriers;
  const auto [made, added] = barriers.try_emplace(barrier);
  if (!added) throw Fault("initialises an mbarrier a second time");
  if (barriers.size() > kMostMbarriers) {
    throw Fault(fmt::format("uses more than {} mbarriers, which is all the emulator has", kMostMbarriers));
  }
  const unsigned long long zero = 0;
  block().shared.store(barrier, &zero, sizeof(zero), stamp(), self().clock);
  block().shared.reserve(barrier, sizeof(*barrier));
  made->second.initialized = stamp();
  made->second.arrivals = arrivals;
  made->second.arrivals_left = arrivals;
  made->second.component =
      block().first_component + static_cast<int>(block().threads.size() + barriers.size() - 1);
  made->second.gathered.resize(self().clock.size());
  made->second.completed.resize(self().clock.size());
}

void Grid::fence_barrier_initialization() {
  for (auto& [address, barrier] : block().mbarriers) {
    if (barrier.initialized.who == self().component) barrier.fenced = true;
  }
  self().fenced_stores = stamp().count;
  self().release();  // what it stores from here on has a later count
}

Mbarrier& Grid::known_barrier(Block& of, const void* barrier) const {
  const auto found = of.mbarriers.find(barrier);
  if (found == of.mbarriers.end()) {
    throw Fault(fmt::format("uses an mbarrier that nobody {}has initialised", in_other(of)));
  }
  const Stamp& initialized = found->second.initialized;
  if (initialized.who != self().component && !happened_before(initialized, self().clock)) {
    throw Fault(
        fmt::format("uses an mbarrier that thread {} {}initialised at line {}, with no barrier between",
                    initialized.who - of.first_component, in_other(of), initialized.line));
  }
  return found->second;
}

std::string Grid::in_other(const Block& other) const {
  return &other == self().block ? "" : fmt::format("of block {} ", other.index);
}

void Grid::arrive_expecting(unsigned long long* barrier, unsigned int bytes) {
  arrive(block(), known_barrier(barrier), bytes);
}

void Grid::arrive(Block& at, Mbarrier& target, unsigned int bytes) {
  if (target.arrivals_left == 0) throw Fault("arrives at an mbarrier more often than a phase expects");
  learn(target.gathered, self().clock);
  self().release();
  --target.arrivals_left;
  target.bytes_left += bytes;
  target.counts_bytes = target.counts_bytes || bytes > 0;
  at.settle(target);
}

/// One that a copy is to count its bytes at.
Mbarrier& Grid::copying_barrier(Block& of, const void* barrier) const {
  Mbarrier& target = known_barrier(of, barrier);
  if (!target.fenced) throw Fault("gives an mbarrier to a bulk copy before the fence of its initialisation");
  target.counts_bytes = true;
  return target;
}

void Grid::copy_bulk(void* to, const void* from, unsigned int bytes, unsigned long long* barrier) {
  Mbarrier& target = copying_barrier(barrier);
  if (bytes % 16 != 0 || bytes == 0) {
    throw Fault(fmt::format("copies {} bytes in bulk, which is no multiple of 16", bytes));
  }
  global_.check_copy(Region::weights, from, bytes, kCopyAlignment);
  begin_copy(to, bytes);
  block().bulk_copies.push_back({{to, from, bytes}, &target, line});
}

void Grid::prefetch_tensor_map(const void* map) { described_by(map); }

void Grid::copy_tensor(void* to, const void* map, int column, int row, unsigned long long* barrier) {
  constexpr std::size_t kAlignment = 1024;  // where the swizzle begins anew
  Mbarrier& target = copying_barrier(barrier);
  const DescribedMatrix matrix = described_by(map);
  check_dependency("reads what the launch before may write");
  std::vector<std::byte> box = read_box(matrix, column, row, global_);
  const auto* const begin = static_cast<const unsigned char*>(to);
  if (const auto byte = static_cast<std::size_t>(begin - block().shared.data()); byte % kAlignment != 0) {
    throw Fault(fmt::format("copies a box to shared byte {}, which is no multiple of {}", byte, kAlignment));
  }
  begin_copy(to, box.size());
  const Copy copy{to, box.data(), box.size()};
  block().bulk_copies.push_back({copy, &target, line, std::move(box)});
}

void Grid::wait_barrier(unsigned long long* barrier, unsigned int parity) {
  Mbarrier& target = known_barrier(barrier);
  if (target.phase % 2 == parity) {  // that phase is under way
    target.waiting.push_back(&self());
    return wait("the bytes of an mbarrier");
  }
  // The phase before the first counts as complete: how a ring's producer finds its stages empty. For one that
  // counts bytes it is a mistake.
  const bool before_first = target.phase == 0 && target.counts_bytes;
  if (before_first || self().phases_waited[&target] == target.phase + 1) {
    throw Fault("waits for a phase of an mbarrier that was complete at its last wait, or before the first");
  }
  self().learn_phase(target);
}

void Grid::wait_barrier_ahead(unsigned long long* barrier, unsigned int parity) {
  wait_barrier(barrier, parity);
  // Forgotten, so that the wait at the use is the first.
  self().phases_waited.erase(&known_barrier(barrier));
}

}  // namespace lutsmith::emulator
