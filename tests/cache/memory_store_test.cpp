#include "cache/stores/memory_store.h"

#include <gtest/gtest.h>

namespace lutsmith::cache {
namespace {

TEST(MemoryStore, KeepsReplacesRemovesAndLists) {
  MemoryStore store;
  const Key key = Key::of({.source = "a", .options = {}, .compiler = {}, .target = {}});
  EXPECT_EQ(store.get(key)->state, LookupState::miss);
  ASSERT_TRUE(store.put(key, {.manifest = "first", .payload = {}}).has_value());
  ASSERT_TRUE(store.put(key, {.manifest = "second", .payload = {}}).has_value());
  EXPECT_EQ(store.get(key)->entry.manifest, "second");

  int visited = 0;
  ASSERT_TRUE(store
                  .scan([&](const StoredEntry& entry) {
                    EXPECT_EQ(entry.key, key);
                    return ++visited > 0;
                  })
                  .has_value());
  EXPECT_EQ(visited, 1);
  EXPECT_TRUE(store.remove(key).value());
  EXPECT_FALSE(store.remove(key).value());
  EXPECT_EQ(store.get(key)->state, LookupState::miss);
}

}  // namespace
}  // namespace lutsmith::cache
