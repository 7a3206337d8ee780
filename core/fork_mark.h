#pragma once

#include <cstdint>

namespace lutsmith::core {

/// Tells whether this is a forked copy of the process that made it. A copy has none of the threads, and its
/// mutexes may be locked for ever by threads that are not there.
class ForkMark {
 public:
  ForkMark();
  /// A load of one word, cheap enough for every request.
  bool copied() const;

 private:
  std::uint32_t generation_;
};

}  // namespace lutsmith::core
