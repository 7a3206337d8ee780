#pragma once

#include <stdexcept>
#include <type_traits>
#include <utility>

#include "lutsmith/error.h"

namespace lutsmith::test {

/// The value of a result; a test that gets an error instead fails with the error's text.
template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message + "\n" + result.error().context);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace lutsmith::test
