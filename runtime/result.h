#pragma once

#include <utility>

#include "lutsmith/error.h"

namespace lutsmith {

/// Hands a failed result's error on: `if (!read) return failure(read);`
template <class T>
std::unexpected<Error> failure(Result<T>& result) {
  return std::unexpected<Error>(std::move(result.error()));
}

/// `value` where the step went well, else the step's error. By reference, since the step may have
/// written the value through a pointer.
template <class T>
Result<T> value_after(Result<void> step, const T& value) {
  if (!step) return failure(step);
  return value;
}

}  // namespace lutsmith
