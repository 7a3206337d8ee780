#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace lutsmith {

// One word that every thread writes costs each of them a trip to another core's cache: 30 ns with two
// threads, 340 ns with sixteen (an increment on the 16 cores of the machine of docs/performance.md). What all
// threads write is therefore kept in several copies, and a thread uses its own.

inline constexpr std::size_t kStripes = 16;
inline constexpr std::size_t kCacheLine = 64;

/// The copy for this thread.
inline std::size_t stripe() {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t own = threads.fetch_add(1, std::memory_order_relaxed) % kStripes;
  return own;
}

class StripedCounter {
 public:
  void add() { counts_[stripe()].value.fetch_add(1, std::memory_order_relaxed); }
  std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (const Count& count : counts_) sum += count.value.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  struct alignas(kCacheLine) Count {
    std::atomic<std::uint64_t> value{0};
  };
  std::array<Count, kStripes> counts_;
};

/// A shared pointer whose copies by different threads count in different places.
template <class T>
class StripedPointer {
 public:
  explicit StripedPointer(const std::shared_ptr<T>& object) {
    for (std::shared_ptr<T>& owner : owners_) owner = std::shared_ptr<T>(object.get(), Owner{object, {}});
  }

  std::shared_ptr<T> get() const { return owners_[stripe()]; }

 private:
  /// Stands beside the count, and keeps the next one off its cache line.
  struct Owner {
    std::shared_ptr<T> object;
    std::array<char, kCacheLine> distance;
    void operator()(T* /*object*/) const {}
  };
  std::array<std::shared_ptr<T>, kStripes> owners_;
};

}  // namespace lutsmith
