#include "runtime/read_mostly_map.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/striped.h"

namespace lutsmith {
namespace {

/// All keys in one bucket.
struct Colliding {
  std::size_t operator()(int /*key*/) const { return 7; }
};
using Map = ReadMostlyMap<int, std::string, Colliding>;

TEST(ReadMostlyMap, FindsWhatWasPutLastAlsoAmongCollidingKeys) {
  Map map;
  EXPECT_EQ(map.find(1), nullptr);
  for (int i = 0; i < 10; ++i) map.insert_or_assign(i, std::to_string(i));
  map.insert_or_assign(3, "three");
  for (int i = 0; i < 10; ++i) {
    ASSERT_NE(map.find(i), nullptr);
    EXPECT_EQ(*map.find(i), i == 3 ? "three" : std::to_string(i));
  }
}

TEST(ReadMostlyMap, WhatWasFoundOutlivesItsReplacementAndItsRemoval) {
  Map map;
  map.insert_or_assign(1, "old");
  const std::string* old = map.find(1);
  map.insert_or_assign(1, "new");
  const std::string* recent = map.find(1);
  map.erase_if([](int, const std::string&) { return true; });
  EXPECT_EQ(map.find(1), nullptr);
  EXPECT_EQ(*old, "old");
  EXPECT_EQ(*recent, "new");
  map.insert_or_assign(1, "again");
  EXPECT_EQ(*map.find(1), "again");
}

TEST(ReadMostlyMap, RemovedValueDoesNotUncoverTheOneItReplaced) {
  Map map;
  map.insert_or_assign(1, "old");
  map.insert_or_assign(1, "new");
  map.erase_if([](int, const std::string& value) { return value == "new"; });
  EXPECT_EQ(map.find(1), nullptr);
}

TEST(ReadMostlyMap, ReadersAndWritersAtOnce) {
  Map map;
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      while (!done) {
        for (int key = 0; key < 50; ++key) {
          const std::string* found = map.find(key);
          if (found != nullptr) {
            EXPECT_EQ(*found, std::to_string(key));
          }
        }
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    for (int key = 0; key < 50; ++key) map.insert_or_assign(key, std::to_string(key));
    map.erase_if([&](int key, const std::string&) { return key % 20 == round; });
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
}

TEST(Striped, CounterAddsUpOverThreads) {
  StripedCounter counter;
  std::vector<std::thread> threads;
  for (int i = 0; i < 40; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 100; ++j) counter.add();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.total(), 4000U);
}

TEST(Striped, PointerKeepsItsObjectAndCountsInSeveralPlaces) {
  const auto object = std::make_shared<int>(5);
  std::weak_ptr<int> watched = object;
  auto striped = std::make_unique<StripedPointer<int>>(object);
  const std::shared_ptr<int> here = striped->get();
  std::shared_ptr<int> there;
  std::thread([&] { there = striped->get(); }).join();
  EXPECT_EQ(here, there);
  EXPECT_TRUE(here.owner_before(there) || there.owner_before(here)) << "two counts";
  striped.reset();
  EXPECT_EQ(*here, 5);
  EXPECT_FALSE(watched.expired());
}

}  // namespace
}  // namespace lutsmith
