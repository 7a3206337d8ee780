#include "failing_allocation.h"

#include <cstdlib>
#include <new>

namespace lutsmith {
namespace {

thread_local int allocations_left = -1;  // before the one that fails; none does below 0

}  // namespace

FailingAllocation::FailingAllocation(int before) { allocations_left = before; }
FailingAllocation::~FailingAllocation() { allocations_left = -1; }

}  // namespace lutsmith

namespace {

void* allocate(std::size_t bytes) noexcept {
  using lutsmith::allocations_left;
  if (allocations_left >= 0 && allocations_left-- == 0) return nullptr;
  // NOLINTNEXTLINE(cppcoreguidelines-no-malloc,cppcoreguidelines-owning-memory)
  return std::malloc(bytes > 0 ? bytes : 1);
}

}  // namespace

// Those of the whole program. The form without exceptions comes to the other by itself, but not where a
// sanitizer has its own.
void* operator new(std::size_t bytes) {
  void* const memory = allocate(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept { return allocate(bytes); }

// NOLINTBEGIN(cppcoreguidelines-no-malloc,cppcoreguidelines-owning-memory)
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*bytes*/) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t& /*tag*/) noexcept { std::free(memory); }
// NOLINTEND(cppcoreguidelines-no-malloc,cppcoreguidelines-owning-memory)
