#pragma once

#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "emulator/block.h"
#include "emulator/grid.h"

namespace lutsmith::emulator {

/// A grid that runs, and the machine its threads see: scheduling in grid.cpp, what each instruction does in
/// grid_machine.cpp.
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

  void initialize_barrier(unsigned long long* barrier, int arrivals) override;
  void fence_barrier_initialization() override;
  void arrive_expecting(unsigned long long* barrier, unsigned int bytes) override;
  void copy_bulk(void* to, const void* from, unsigned int bytes, unsigned long long* barrier) override;
  void wait_barrier(unsigned long long* barrier, unsigned int parity) override;

  void release_dependents() override {}
  void wait_for_dependency() override { self().dependency_met = true; }

  float to_float(unsigned short bits, bool bf16) const override;
  unsigned short from_float(float value, bool bf16) const override;
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

}  // namespace lutsmith::emulator
