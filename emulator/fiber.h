#pragma once

#include <boost/context/fiber.hpp>
#include <functional>
#include <vector>

namespace lutsmith::emulator {

/// Stacks of emulated threads, each with a guard page below, kept for the next ones.
class StackPool {
 public:
  StackPool() = default;
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;
  ~StackPool();

  boost::context::stack_context take();
  void give_back(boost::context::stack_context& stack);

 private:
  std::vector<boost::context::stack_context> free_;
};

/// A function that can be left in the middle and taken up again. Tells the address sanitizer of every
/// switch of stacks.
class Fiber {
 public:
  Fiber(StackPool& pool, std::function<void()> body);
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  /// The function must have ended.
  ~Fiber() = default;

  /// Runs the function until it calls yield() or ends. Not from within a fiber.
  void resume();
  /// Goes back to the caller of resume(). From within this fiber's function only.
  void yield();
  bool ended() const { return ended_; }
  /// Behind the outermost frame.
  const void* stack_end() const { return static_cast<const char*>(own_stack_.bottom) + own_stack_.size; }

 private:
  struct Stack {
    const void* bottom = nullptr;
    std::size_t size = 0;
  };

  boost::context::fiber run(boost::context::fiber&& caller);

  std::function<void()> body_;
  boost::context::fiber fiber_;
  boost::context::fiber caller_;
  Stack own_stack_;
  Stack caller_stack_;
  void* own_fake_stack_ = nullptr;  ///< of the address sanitizer
  bool ended_ = false;
};

}  // namespace lutsmith::emulator
