#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

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
    return node != nullptr ? node->value.load(std::memory_order_acquire) : nullptr;
  }

  /// What is in the map now.
  const Value* insert_or_assign(const Key& key, Value value) {
    const std::lock_guard lock(mutex_);
    const Value* kept = values_.emplace_back(std::make_unique<const Value>(std::move(value))).get();
    std::atomic<Node*>& head = bucket(key);
    Node* first = head.load(std::memory_order_relaxed);
    for (Node* node = first; node != nullptr; node = node->next) {
      if (node->key == key) {
        node->value.store(kept, std::memory_order_release);
        return kept;
      }
    }
    Node* node = nodes_.emplace_back(std::make_unique<Node>(key, first, kept)).get();
    head.store(node, std::memory_order_release);
    return kept;
  }

  /// Erases what `matches(key, value)` says.
  template <class Matches>
  void erase_if(Matches&& matches) {
    const std::lock_guard lock(mutex_);
    for (const std::unique_ptr<Node>& node : nodes_) {
      const Value* value = node->value.load(std::memory_order_relaxed);
      if (value != nullptr && matches(node->key, *value))
        node->value.store(nullptr, std::memory_order_release);
    }
  }

 private:
  struct Node {
    Node(const Key& its_key, Node* its_next, const Value* its_value)
        : key(its_key), next(its_next), value(its_value) {}
    const Key key;
    Node* const next;
    std::atomic<const Value*> value;  ///< null: erased
  };

  // A model has some dozens of kernels; with thousands a look-up still meets few others.
  static constexpr std::size_t kBuckets = 1024;

  const std::atomic<Node*>& bucket(const Key& key) const { return heads_[Hash()(key) % kBuckets]; }
  std::atomic<Node*>& bucket(const Key& key) { return heads_[Hash()(key) % kBuckets]; }

  std::array<std::atomic<Node*>, kBuckets> heads_{};
  std::mutex mutex_;  // of writers
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<std::unique_ptr<const Value>> values_;
};

}  // namespace lutsmith
