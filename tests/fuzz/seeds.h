#pragma once

#include <cstddef>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lutsmith::fuzz {

using Bytes = std::vector<std::byte>;

/// Inputs by name, made from what the library itself writes: whole ones, and some that lie in places where
/// mutations would hardly meet. Under 4 KB each.
using Seeds = std::map<std::string, Bytes>;

Seeds entry_seeds();   ///< for fuzz_entry.cpp
Seeds bundle_seeds();  ///< for fuzz_bundle.cpp

inline Bytes bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

inline Bytes joined(std::initializer_list<std::span<const std::byte>> parts) {
  Bytes all;
  for (const auto part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  return text.replace(text.find(from), from.size(), to);
}

}  // namespace lutsmith::fuzz
