#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <utility>

#include "core/result.h"
#include "lutsmith.h"
#include "lutsmith/weight_format.h"

// What the functions of lutsmith.h have in common.

namespace lutsmith::c_interface {

/// Keeps the error for lutsmith_error_message().
lutsmith_status fail(Error error);
lutsmith_status fail(const std::exception& thrown) noexcept;

/// Runs what returns Result<void>; no exception may reach C.
template <class Work>
lutsmith_status status_after(Work&& work) noexcept {
  try {
    Result<void> done = std::forward<Work>(work)();
    return done ? LUTSMITH_OK : fail(std::move(done.error()));
  } catch (const std::exception& thrown) {
    return fail(thrown);
  }
}

template <class T>
Result<void> check_handle(const T* pointer, const char* name) {
  if (pointer == nullptr) return refuse(fmt::format("{}: NULL is not allowed", name));
  return {};
}

/// The caller's structure as this release knows it: of an older, shorter one the rest is as `defaults` has
/// it; of a newer, longer one the rest must be zero, since it asks for what this release cannot do.
template <class T>
Result<T> known_part(const T* given, const char* name, T defaults) {
  if (Result<void> there = check_handle(given, name); !there) return failure(there);
  const std::size_t size = given->struct_size;
  if (size < sizeof(given->struct_size)) {
    return refuse(
        fmt::format("{}: its struct_size is {}; initialise it with the macro beside it", name, size));
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i] != 0) {
      return refuse(fmt::format(
          "{}: it asks for something newer than this release, {}; update the library or set that to 0", name,
          LUTSMITH_VERSION_STRING));
    }
  }
  std::memcpy(&defaults, given, std::min(size, sizeof(T)));
  return defaults;
}

/// The format that a spec describes. Not validated.
Result<WeightFormat> format_of(const lutsmith_spec& given);
/// The same of what a caller's pointer leads to; `name` is the argument's, for messages.
Result<WeightFormat> format_of(const lutsmith_spec* pointer, const char* name);

}  // namespace lutsmith::c_interface
