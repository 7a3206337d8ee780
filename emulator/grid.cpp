#include "emulator/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>
#include <list>
#include <optional>
#include <utility>

#include "emulator/block.h"
#include "emulator/fault.h"
#include "emulator/tensor_core.h"
#include "lutsmith/quantization.h"

namespace lutsmith::emulator {
namespace {

/// Blocks that run at a time where they interleave.
constexpr std::size_t kResidentBlocks = 4;

constexpr const char* kUnwritten = "uses a register that nothing was written to";

/// Thrown in the threads of a grid that has stopped, so that their stacks unwind.
struct Cancelled {};

DataType type_of(bool bf16) { return bf16 ? DataType::bf16 : DataType::fp16; }

class Grid final : public Machine {
 public:
  Grid(const GridShape& shape, const Regions& regions, BlockOrder order,
       const std::function<void(Machine&)>& body, StackPool& stacks)
      : shape_(shape), order_(order), body_(body), global_(regions), stacks_(stacks) {}

  Result<void> run();

  int thread_index() const override { return self().index; }
  int block_index() const override { return self().block->index; }
  void block_barrier() override { meet(block().barriers[0], block().threads.size(), "the block's barrier"); }
  void named_barrier(int id, int threads) override {
    meet(block().barriers[id], static_cast<std::size_t>(threads), "a named barrier");
  }
  void warp_barrier() override { meet(warp().meeting, kLanes, "the warp's barrier"); }
  unsigned int ballot(bool predicate) override;
  unsigned int shuffle(unsigned int value, int from_lane) override;

  unsigned char* dynamic_shared() override { return block().shared.data(); }
  unsigned int shared_address(const void* pointer) const override {
    return self().block->shared.address(pointer);
  }
  void* shared_pointer(unsigned int address) override { return block().shared.pointer(address); }
  void load_shared(void* to, const void* from, int bytes) override {
    Stamp reader = stamp();
    reader.products = products();
    block().shared.load(to, from, static_cast<std::size_t>(bytes), reader, self().clock);
  }
  void store_shared(void* to, const void* from, int bytes) override {
    check_integers(from, static_cast<std::size_t>(bytes));
    block().shared.store(to, from, static_cast<std::size_t>(bytes), stamp(), self().clock);
  }
  void load_matrices(unsigned int (&to)[4], const void* row) override;

  void load_global(Region region, void* to, const void* from, int bytes) override;
  void store_global(Region region, void* to, const void* from, int bytes) override;
  unsigned int count_arrival(unsigned int* counter) override;

  void copy_async(void* to, const void* from, int bytes) override;
  void commit_copies() override;
  void wait_copies(int pending) override;

  void initialize_barrier(unsigned long long* barrier) override;
  void fence_barrier_initialization() override;
  void arrive_expecting(unsigned long long* barrier, unsigned int bytes) override;
  void copy_bulk(void* to, const void* from, unsigned int bytes, unsigned long long* barrier) override;
  void wait_barrier(unsigned long long* barrier, unsigned int parity) override;

  void release_dependents() override {}
  void wait_for_dependency() override { self().dependency_met = true; }

  float to_float(unsigned short bits, bool bf16) const override {
    check_integers(&bits, sizeof(bits));
    return from_bits(bits, type_of(bf16));
  }
  unsigned short from_float(float value, bool bf16) const override {
    check_floats(&value, 1);
    return to_bits(value, type_of(bf16));
  }
  void multiply_accumulate(float (&d)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1,
                           bool bf16) override;

 private:
  Thread& self() const { return *current_; }
  Block& block() const { return *current_->block; }
  Warp& warp() const { return block().warps[static_cast<std::size_t>(self().index / kLanes)]; }
  int lane() const { return self().index % kLanes; }
  Stamp stamp() const { return self().stamp(line); }
  std::uint32_t& products() const { return block().products[static_cast<std::size_t>(self().index)]; }
  Actor actor() const { return {block().index, stamp(), &self().clock, &self().foreign}; }

  // Scheduling.
  void run_blocks();
  void admit_blocks();
  bool run_turns();
  void run_turn(Block& block);
  void start(Thread& thread);
  void end_block(const Block& block) const;
  void stop();
  /// Leaves the processor to the others until somebody makes this thread ready.
  void wait(const char* what);

  void meet(Meeting& meeting, std::size_t expected, const char* what);
  template <class Combine>
  void collect(const char* name, std::span<std::uint32_t> words, Combine combine);

  void check_integers(const void* values, std::size_t bytes) const;
  void check_floats(const float* values, std::size_t count) const;
  void check_dependency(const char* what) const;
  Mbarrier& known_barrier(const unsigned long long* barrier);
  void deliver(const std::vector<Copy>& copies);

  const GridShape& shape_;
  BlockOrder order_;
  const std::function<void(Machine&)>& body_;
  GlobalMemory global_;
  StackPool& stacks_;
  std::list<Block> blocks_;  ///< that run now
  int admitted_ = 0;
  Thread* current_ = nullptr;
  std::optional<std::string> fault_;
  std::exception_ptr failure_;  ///< of the emulator itself, such as no memory
  bool stopping_ = false;
};

Result<void> Grid::run() {
  try {
    run_blocks();
    if (!fault_) global_.check_arrivals();
  } catch (const Fault& fault) {
    fault_ = fault.message();
  } catch (...) {
    failure_ = std::current_exception();
  }
  stop();
  if (failure_) std::rethrow_exception(failure_);
  if (!fault_) return {};
  const std::size_t first_line = std::min(fault_->find('\n'), fault_->size());
  return std::unexpected(Error{ErrorCode::kernel_fault, fault_->substr(0, first_line),
                               fault_->substr(std::min(first_line + 1, fault_->size()))});
}

void Grid::run_blocks() {
  for (admit_blocks(); !blocks_.empty() && !fault_; admit_blocks()) {
    if (run_turns()) continue;
    // Nobody can run before a copy has arrived: the latest moment it may come.
    const auto copying =
        std::ranges::find_if(blocks_, [](const Block& block) { return !block.bulk_copies.empty(); });
    if (copying == blocks_.end()) {
      std::string places;
      for (const Block& block : blocks_) places += block.places();
      throw Fault("deadlock: no thread can go on\n" + places);
    }
    copying->deliver_copy();
  }
}

void Grid::admit_blocks() {
  const std::size_t most = order_ == BlockOrder::interleaved ? kResidentBlocks : 1;
  while (blocks_.size() < most && admitted_ < shape_.blocks) {
    const int index = order_ == BlockOrder::descending ? shape_.blocks - 1 - admitted_ : admitted_;
    blocks_.emplace_back(index, shape_.threads, static_cast<std::size_t>(shape_.shared_bytes),
                         !shape_.dependent_launch);
    ++admitted_;
  }
}

/// A turn for every block that has a thread to run; whether there was one.
bool Grid::run_turns() {
  bool ran = false;
  for (auto block = blocks_.begin(); block != blocks_.end() && !fault_;) {
    if (!block->ready.empty()) {
      run_turn(*block);
      ran = true;
    }
    if (block->running == 0 && !fault_) {
      end_block(*block);
      block = blocks_.erase(block);
    } else {
      ++block;
    }
  }
  return ran;
}

void Grid::run_turn(Block& block) {
  Thread& thread = *block.ready.front();
  block.ready.pop_front();
  current_ = &thread;
  if (!thread.fiber) start(thread);
  thread.fiber->resume();
  if (!thread.fiber->ended()) return;
  thread.fiber.reset();
  --block.running;
}

void Grid::start(Thread& thread) {
  thread.fiber = std::make_unique<Fiber>(stacks_, [this, &thread] {
    try {
      body_(*this);
      if (!thread.open_copies.empty() ||
          std::ranges::any_of(thread.committed_copies, [](const auto& group) { return !group.empty(); })) {
        throw Fault("ends while copies it issued are under way");
      }
    } catch (const Fault& fault) {
      fault_ = fmt::format("block {}, thread {}, line {}: {}", thread.block->index, thread.index, line,
                           fault.message());
    } catch (const Cancelled&) {  // NOLINT(bugprone-empty-catch): unwinding the stack was all it was for
    } catch (...) {
      failure_ = std::current_exception();
      fault_ = "stopped";
    }
  });
}

void Grid::end_block(const Block& block) const {
  if (!block.bulk_copies.empty()) {
    throw Fault(fmt::format("block {} ends while the bulk copy issued at line {} is under way", block.index,
                            block.bulk_copies.front().line));
  }
  for (const auto& [address, barrier] : block.mbarriers) {
    if (barrier.bytes_left < 0) {
      throw Fault(fmt::format("block {} ends with {} bytes of an mbarrier that no phase expects", block.index,
                              -barrier.bytes_left));
    }
  }
}

/// Lets the threads that have not ended unwind.
void Grid::stop() {
  stopping_ = true;
  for (Block& block : blocks_) {
    for (Thread& thread : block.threads) {
      if (!thread.fiber) continue;
      current_ = &thread;
      thread.fiber->resume();
      thread.fiber.reset();
    }
  }
  blocks_.clear();
}

void Grid::wait(const char* what) {
  Thread& thread = self();
  thread.waits_for = what;
  thread.line = line;
  thread.fiber->yield();
  if (stopping_) throw Cancelled{};
  line = thread.line;
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

/// Lanes bring `words`; once all have, `combine` turns what all brought into what each gets.
template <class Combine>
void Grid::collect(const char* name, std::span<std::uint32_t> words, Combine combine) {
  Collective& collective = warp().collective;
  if (collective.arrived.empty()) {
    collective.name = name;
    collective.line = line;
  }
  if (collective.line != line || collective.name != name) {
    throw Fault(fmt::format("is at {} while lanes of its warp are at {} of line {}", name, collective.name,
                            collective.line));
  }
  auto& mine = collective.words[static_cast<std::size_t>(lane())];
  std::ranges::copy(words, mine.begin());
  collective.arrived.push_back(&self());
  if (collective.arrived.size() < kLanes) {
    wait(name);
  } else {
    combine(collective.words);
    for (Thread* const thread : std::exchange(collective.arrived, {})) {
      if (thread != &self()) block().make_ready(*thread);
    }
  }
  std::copy_n(mine.begin(), words.size(), words.begin());
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
  ++products();
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

void Grid::check_dependency(const char* what) const {
  if (!self().dependency_met) {
    throw Fault(fmt::format("{} before it has waited for the launch before", what));
  }
}

void Grid::load_global(Region region, void* to, const void* from, int bytes) {
  if (region != Region::weights) check_dependency("reads what the launch before may write");
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
  self().release();
  return before;
}

void Grid::copy_async(void* to, const void* from, int bytes) {
  global_.check_copy(from, static_cast<std::size_t>(bytes));
  block().shared.begin_copy(to, static_cast<std::size_t>(bytes), stamp(), self().clock, block().products);
  self().open_copies.push_back({to, from, static_cast<std::size_t>(bytes)});
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

void Grid::initialize_barrier(unsigned long long* barrier) {
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
  made->second.component = static_cast<int>(block().threads.size() + barriers.size() - 1);
  made->second.gathered.resize(self().clock.size());
}

void Grid::fence_barrier_initialization() {
  for (auto& [address, barrier] : block().mbarriers) {
    if (barrier.initialized.who == self().index) barrier.fenced = true;
  }
}

Mbarrier& Grid::known_barrier(const unsigned long long* barrier) {
  const auto found = block().mbarriers.find(barrier);
  if (found == block().mbarriers.end()) throw Fault("uses an mbarrier that nobody has initialised");
  const Stamp& initialized = found->second.initialized;
  if (initialized.who != self().index && !happened_before(initialized, self().clock)) {
    throw Fault(fmt::format("uses an mbarrier that thread {} initialised at line {}, with no barrier between",
                            initialized.who, initialized.line));
  }
  return found->second;
}

void Grid::arrive_expecting(unsigned long long* barrier, unsigned int bytes) {
  Mbarrier& target = known_barrier(barrier);
  if (target.arrivals_left == 0) throw Fault("arrives at an mbarrier more often than a phase expects");
  learn(target.gathered, self().clock);
  self().release();
  --target.arrivals_left;
  target.bytes_left += bytes;
  block().settle(target);
}

void Grid::copy_bulk(void* to, const void* from, unsigned int bytes, unsigned long long* barrier) {
  Mbarrier& target = known_barrier(barrier);
  if (!target.fenced) throw Fault("gives an mbarrier to a bulk copy before the fence of its initialisation");
  if (bytes % 16 != 0 || bytes == 0) {
    throw Fault(fmt::format("copies {} bytes in bulk, which is no multiple of 16", bytes));
  }
  global_.check_copy(from, bytes);
  block().shared.begin_copy(to, bytes, stamp(), self().clock, block().products);
  block().bulk_copies.push_back({{to, from, bytes}, &target, line});
}

void Grid::wait_barrier(unsigned long long* barrier, unsigned int parity) {
  Mbarrier& target = known_barrier(barrier);
  if (target.phase % 2 == parity) {  // that phase is under way
    target.waiting.push_back(&self());
    return wait("the bytes of an mbarrier");
  }
  if (self().phases_waited[&target] == target.phase) {
    throw Fault("waits for a phase of an mbarrier that was complete at its last wait, or before the first");
  }
  self().learn_phase(target);
}

}  // namespace

Result<void> run_grid(const GridShape& shape, const Regions& regions, BlockOrder order,
                      const std::function<void(Machine&)>& thread) {
  const auto refuse = [](const char* field, int value, const char* allowed) {
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("{}: {} is not allowed; allowed: {}", field, value, allowed),
                                 {}});
  };
  if (shape.blocks < 1) return refuse("blocks", shape.blocks, "1 or more");
  if (shape.threads < kLanes || shape.threads % kLanes != 0) {
    return refuse("threads", shape.threads, "multiples of 32");
  }
  if (shape.shared_bytes < 0) return refuse("shared_bytes", shape.shared_bytes, "0 or more");
  thread_local StackPool stacks;  // kept for the next grid: mapping them anew costs more than a small grid
  return Grid(shape, regions, order, thread, stacks).run();
}

}  // namespace lutsmith::emulator
