#include "emulator/fiber.h"

#include <boost/context/protected_fixedsize_stack.hpp>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace lutsmith::emulator {
namespace {

using boost::context::stack_context;

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStackBytes = 256 * 1024;
void start_switch(void** own_fake_stack, const void* bottom, std::size_t size) {
  __sanitizer_start_switch_fiber(own_fake_stack, bottom, size);
}
void finish_switch(void* own_fake_stack, const void** old_bottom, std::size_t* old_size) {
  __sanitizer_finish_switch_fiber(own_fake_stack, old_bottom, old_size);
}
/// A fiber's last frames are left, not returned from: their red zones are still there.
void forget_frames(const stack_context& stack) {
  __asan_unpoison_memory_region(static_cast<const char*>(stack.sp) - stack.size, stack.size);
}
#else
constexpr std::size_t kStackBytes = 64 * 1024;
void start_switch(void**, const void*, std::size_t) {}
void finish_switch(void*, const void**, std::size_t*) {}
void forget_frames(const stack_context&) {}
#endif

/// Boost.Context's allocator: takes from the pool and gives back to it.
class PooledStack {
 public:
  explicit PooledStack(StackPool& pool) : pool_(&pool) {}
  stack_context allocate() { return pool_->take(); }
  void deallocate(stack_context& stack) { pool_->give_back(stack); }

 private:
  StackPool* pool_;
};

}  // namespace

StackPool::~StackPool() {
  boost::context::protected_fixedsize_stack allocator(kStackBytes);
  for (stack_context& stack : free_) allocator.deallocate(stack);
}

stack_context StackPool::take() {
  if (free_.empty()) return boost::context::protected_fixedsize_stack(kStackBytes).allocate();
  const stack_context stack = free_.back();
  free_.pop_back();
  return stack;
}

void StackPool::give_back(stack_context& stack) {
  forget_frames(stack);
  free_.push_back(stack);
}

Fiber::Fiber(StackPool& pool, std::function<void()> body) : body_(std::move(body)) {
  const stack_context stack = pool.take();
  own_stack_ = {static_cast<const char*>(stack.sp) - stack.size, stack.size};
  fiber_ = boost::context::fiber(std::allocator_arg,
                                 boost::context::preallocated(stack.sp, stack.size, stack), PooledStack(pool),
                                 [this](boost::context::fiber&& caller) { return run(std::move(caller)); });
}

boost::context::fiber Fiber::run(boost::context::fiber&& caller) {
  finish_switch(nullptr, &caller_stack_.bottom, &caller_stack_.size);
  caller_ = std::move(caller);
  body_();
  ended_ = true;
  start_switch(nullptr, caller_stack_.bottom, caller_stack_.size);
  return std::move(caller_);
}

void Fiber::resume() {
  void* fake_stack = nullptr;
  start_switch(&fake_stack, own_stack_.bottom, own_stack_.size);
  fiber_ = std::move(fiber_).resume();
  finish_switch(fake_stack, nullptr, nullptr);
}

void Fiber::yield() {
  start_switch(&own_fake_stack_, caller_stack_.bottom, caller_stack_.size);
  caller_ = std::move(caller_).resume();
  finish_switch(own_fake_stack_, &caller_stack_.bottom, &caller_stack_.size);
}

}  // namespace lutsmith::emulator
