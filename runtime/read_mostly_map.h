#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>

#include "runtime/striped.h"

namespace lutsmith {

/// A hash map for what is looked up all the time and rarely changed. A look-up takes no lock and writes
/// nothing; what it found stays as it is until the map is destroyed, even if it has been replaced or erased
/// since. So nothing is freed earlier: for entries that hardly ever go.
template <class Key, class Value, class Hash>
class ReadMostlyMap {
 public:
  ReadMostlyMap() = default;
  ReadMostlyMap(const ReadMostlyMap&) = delete;
  ReadMostlyMap& operator=(const ReadMostlyMap&) = delete;

  /// Null where there is none.
  const Value* find(const Key& key) const {
    const Node* node = bucket(key).load(std::memory_order_acquire);
    while (node != nullptr && !(node->key == key)) node = node->next;
    return node != nullptr && !node->erased.load(std::memory_order_relaxed) ? &node->value : nullptr;
  }

  /// What is in the map now.
  const Value* insert_or_assign(const Key& key, Value value) {
    const std::lock_guard lock(mutex_);
    std::atomic<const Node*>& head = bucket(key);
    const Node& node = nodes_.emplace_back(head.load(std::memory_order_relaxed), key, std::move(value));
    head.store(&node, std::memory_order_release);  // ahead of the one it replaces
    return &node.value;
  }

  /// Erases what `matches(key, value)` says.
  template <class Matches>
  void erase_if(Matches&& matches) {
    const std::lock_guard lock(mutex_);
    for (Node& node : nodes_) {
      if (matches(node.key, node.value)) node.erased.store(true, std::memory_order_relaxed);
    }
  }

 private:
  /// Key and value side by side: a look-up that has missed the nearest cache for one has the other too.
  struct alignas(kCacheLine) Node {
    Node(const Node* its_next, const Key& its_key, Value its_value)
        : next(its_next), key(its_key), value(std::move(its_value)) {}
    const Node* const next;
    std::atomic<bool> erased{false};
    const Key key;
    const Value value;
  };

  // A model has some dozens of kernels; with thousands a look-up still meets few others.
  static constexpr std::size_t kBuckets = 1024;

  const std::atomic<const Node*>& bucket(const Key& key) const { return heads_[Hash()(key) % kBuckets]; }
  std::atomic<const Node*>& bucket(const Key& key) { return heads_[Hash()(key) % kBuckets]; }

  std::array<std::atomic<const Node*>, kBuckets> heads_{};
  std::mutex mutex_;        // of writers
  std::deque<Node> nodes_;  // which stay where they are
};

}  // namespace lutsmith
