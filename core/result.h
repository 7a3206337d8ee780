#pragma once

#include <string>
#include <utility>

#include "lutsmith/error.h"

namespace lutsmith {

/// Hands a failed result's error on: `if (!read) return failure(read);`
template <class T>
std::unexpected<Error> failure(Result<T>& result) {
  return std::unexpected<Error>(std::move(result.error()));
}

/// The error for an argument: "FIELD: VALUE is not allowed; allowed: ..., WHAT TO DO".
inline std::unexpected<Error> refuse(std::string message, std::string context = {}) {
  return std::unexpected(Error{ErrorCode::invalid_argument, std::move(message), std::move(context)});
}

/// The error for bytes, such as those of a file, that are not what they should be.
inline std::unexpected<Error> corrupt(std::string message) {
  return std::unexpected(Error{ErrorCode::corrupt_data, std::move(message), {}});
}

/// `value` where the step went well, else the step's error. By reference, since the step may have
/// written the value through a pointer.
template <class T>
Result<T> value_after(Result<void> step, const T& value) {
  if (!step) return failure(step);
  return value;
}

}  // namespace lutsmith
