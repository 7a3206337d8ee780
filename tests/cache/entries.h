#pragma once

#include <cstddef>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cache/entry.h"
#include "cache/key.h"

// Keys and entries that are told apart by a word, for tests of stores.

namespace lutsmith::cache {

inline Key key_of(std::string_view name) {
  return Key::of({.source = name, .options = {}, .compiler = {}, .target = {}});
}

inline Entry entry_of(std::string text) {
  return {.manifest = std::move(text), .payload = std::vector<std::byte>(1000, std::byte{7})};
}

inline std::set<std::string> files_under(const std::filesystem::path& root) {
  std::set<std::string> names;
  for (const auto& found : std::filesystem::recursive_directory_iterator(root)) {
    if (!found.is_directory()) names.insert(found.path().filename());
  }
  return names;
}

}  // namespace lutsmith::cache
