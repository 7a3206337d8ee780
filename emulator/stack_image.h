#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lutsmith::emulator {

/// What a thread's variables held at some moment: the innermost frames of its stack, as far as the stack's
/// end.
class StackImage {
 public:
  /// Of the running thread, whose stack ends at `end`.
  void take(const void* end);
  /// Whether these words are as they were. Those that did not lie there then are.
  bool same(const void* words, std::size_t bytes) const;

 private:
  std::uintptr_t begin_ = 0;
  std::vector<std::uint32_t> words_;
};

}  // namespace lutsmith::emulator
