#include "emulator/stack_image.h"

namespace lutsmith::emulator {

/// Word by word, past the red zones that the address sanitizer has between variables. By a bare pointer: what
/// is not sanitized calls an iterator's functions, which are, one by one.
__attribute__((no_sanitize("address"), noinline)) void StackImage::take(const void* end) {
  constexpr std::uintptr_t kWord = sizeof(std::uint32_t);
  begin_ = (reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) + kWord - 1) / kWord * kWord;
  words_.resize((reinterpret_cast<std::uintptr_t>(end) - begin_) / kWord);
  const volatile auto* from = reinterpret_cast<const volatile std::uint32_t*>(begin_);
  std::uint32_t* const to = words_.data();
  const std::size_t count = words_.size();
  for (std::size_t i = 0; i < count; ++i) to[i] = from[i];
}

bool StackImage::same(const void* words, std::size_t bytes) const {
  const std::size_t first = (reinterpret_cast<std::uintptr_t>(words) - begin_) / sizeof(std::uint32_t);
  const std::size_t count = bytes / sizeof(std::uint32_t);
  if (first >= words_.size() || count > words_.size() - first) return true;
  const auto* const now = static_cast<const std::uint32_t*>(words);
  for (std::size_t i = 0; i < count; ++i) {
    if (now[i] != words_[first + i]) return false;
  }
  return true;
}

}  // namespace lutsmith::emulator
