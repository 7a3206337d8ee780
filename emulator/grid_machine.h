#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "emulator/block.h"
#include "emulator/fault.h"
#include "emulator/grid.h"

namespace lutsmith::emulator {

/// A grid that runs, and the machine its threads see: scheduling in grid.cpp, what each instruction does in
/// grid_machine.cpp, in warpgroup.cpp for asynchronous products, and in cluster.cpp between blocks.
class Grid final : public Machine {
 public:
  Grid(const GridShape& shape, const Regions& regions, BlockOrder order,
       const std::function<void(Machine&)>& body, StackPool& stacks)
      : shape_(shape), order_(order), body_(body), global_(regions), stacks_(stacks) {}

  Result<void> run();

  int thread_index() const override { return self().index; }
  int block_index() const override { return self().block->index; }
  int block_count() const override { return shape_.blocks; }
  void block_barrier() override { meet(block().barriers[0], block().threads.size(), "the block's barrier"); }
  void named_barrier(int id, int threads) override;
  void warp_barrier() override { meet(warp().meeting, kLanes, "the warp's barrier"); }
  unsigned int ballot(bool predicate) override;
  unsigned int shuffle(unsigned int value, int from_lane) override;
  void change_registers(bool claim, int registers) override;

  unsigned char* dynamic_shared() override { return block().shared.data(); }
  unsigned int shared_address(const void* pointer) const override {
    return self().block->shared.address(pointer);
  }
  void* shared_pointer(unsigned int address) override { return block().shared.pointer(address); }
  void load_shared(void* to, const void* from, int bytes) override {
    Stamp reader = stamp();
    reader.uses = self().uses;
    block().shared.load(to, from, static_cast<std::size_t>(bytes), reader, self().clock);
  }
  void store_shared(void* to, const void* from, int bytes) override {
    check_integers(from, static_cast<std::size_t>(bytes));
    block().shared.store(to, from, static_cast<std::size_t>(bytes), stamp(), self().clock);
  }
  void load_matrices(unsigned int (&to)[4], const void* row) override;
  void load_matrices_transposed(unsigned int (&to)[4], const void* column) override;
  void store_matrices_transposed(void* column, const unsigned int (&matrices)[4]) override;

  void load_global(Region region, void* to, const void* from, int bytes) override;
  void store_global(Region region, void* to, const void* from, int bytes) override;
  unsigned int count_arrival(unsigned int* counter) override;

  void copy_async(void* to, const void* from, int bytes) override;
  void copy_activations_async(void* to, const void* from, bool present) override;
  void commit_copies() override;
  void wait_copies(int pending) override;

  void initialize_barrier(unsigned long long* barrier, int arrivals) override;
  void fence_barrier_initialization() override;
  void arrive_expecting(unsigned long long* barrier, unsigned int bytes) override;
  void copy_bulk(void* to, const void* from, unsigned int bytes, unsigned long long* barrier) override;
  void prefetch_tensor_map(const void* map) override;
  void copy_tensor(void* to, const void* map, int column, int row, unsigned long long* barrier) override;
  void wait_barrier(unsigned long long* barrier, unsigned int parity) override;
  void wait_barrier_ahead(unsigned long long* barrier, unsigned int parity) override;

  int cluster_rank() const override { return self().block->in_cluster.rank; }
  void arrive_at_cluster() override;
  void wait_for_cluster() override;
  void arrive_remote(unsigned long long* barrier, int rank) override;
  void store_async(void* to, int rank, const void* value, unsigned long long* barrier) override;

  void release_dependents() override {}
  void wait_for_dependency() override {
    self().dependency_met = true;
    block().dependency_waits.push_back(stamp());
  }

  float to_float(unsigned short bits, bool bf16) const override;
  unsigned short from_float(float value, bool bf16) const override;
  void multiply_accumulate(float (&d)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1,
                           bool bf16) override;
  float exp2(float value) const override;
  float reciprocal(float value) const override;
  unsigned short multiply(unsigned short a, unsigned short b, bool bf16) override;
  unsigned short multiply_add(unsigned short a, unsigned short b, unsigned short c, bool bf16) override;
  void report_unwritten() const override;

  void fence_registers() override;
  void multiply_async(float* d, int tokens, const unsigned int (&a)[4], unsigned long long b, bool accumulate,
                      bool bf16) override;
  void commit_products() override;
  void wait_products(int pending) override;

 private:
  Thread& self() const { return *current_; }
  Block& block() const { return *current_->block; }
  Warp& warp() const { return block().warps[static_cast<std::size_t>(self().index / kLanes)]; }
  int lane() const { return self().index % kLanes; }
  Stamp stamp() const { return self().stamp(line); }
  Cluster& cluster() const { return *block().cluster; }
  Actor actor() const {
    return {cluster().index, block().index, self().index, stamp(), &self().clock, &self().foreign};
  }

  // Scheduling.
  void run_blocks();
  void admit_blocks();
  void admit_cluster();
  bool run_turns();
  void run_turn(Block& block);
  void start(Thread& thread);
  void end_block(const Block& block) const;
  void stop();
  /// Leaves the processor to the others until somebody makes this thread ready.
  void wait(const char* what);

  void meet(Meeting& meeting, std::size_t expected, const char* what);
  void check_met_before(int id, const Meeting& meeting) const;
  /// Lanes bring `words`; once all have, `combine` turns what all brought into what each gets.
  template <class Combine>
  void collect(const char* name, std::span<std::uint32_t> words, Combine combine);

  void check_integers(const void* values, std::size_t bytes) const;
  void check_floats(const float* values, std::size_t count) const;
  void check_dependency(const char* what) const;
  Mbarrier& known_barrier(const unsigned long long* barrier) { return known_barrier(block(), barrier); }
  Mbarrier& copying_barrier(const unsigned long long* barrier) { return copying_barrier(block(), barrier); }
  Mbarrier& known_barrier(Block& of, const void* barrier) const;
  Mbarrier& copying_barrier(Block& of, const void* barrier) const;
  void arrive(Block& at, Mbarrier& target, unsigned int bytes);
  void begin_copy(void* to, std::size_t bytes) { begin_copy(block(), to, bytes, -1); }
  void begin_copy(Block& in, void* to, std::size_t bytes, int storer);
  Block& reachable_block(int rank) const;
  void* place_in(Block& other, const void* place) const;
  /// For a report; empty for the thread's own block.
  std::string in_other(const Block& other) const;
  void deliver(const std::vector<Copy>& copies);

  // Products of warpgroups: warpgroup.cpp.
  Warpgroup& warpgroup();
  void begin_product(Warpgroup& group, const ProductCall& call);
  void check_source(const SharedMemory::Source& source) const;
  std::shared_ptr<PendingSums> pending_sums(float* d, int count, bool accumulate);
  void check_registers(Warpgroup& group, std::uint32_t last) const;
  void finish(Product& product, const Stamp& reader);
  void hand_over(Warpgroup& group, std::uint32_t last);

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

}  // namespace lutsmith::emulator
