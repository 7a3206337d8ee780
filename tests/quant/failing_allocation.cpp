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

// Those of the whole program; the forms for arrays and without exceptions come to them.
// NOLINTBEGIN(cppcoreguidelines-no-malloc,cppcoreguidelines-owning-memory)
void* operator new(std::size_t bytes) {
  if (lutsmith::allocations_left >= 0 && lutsmith::allocations_left-- == 0) throw std::bad_alloc();
  void* const memory = std::malloc(bytes > 0 ? bytes : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*bytes*/) noexcept { std::free(memory); }
// NOLINTEND(cppcoreguidelines-no-malloc,cppcoreguidelines-owning-memory)
