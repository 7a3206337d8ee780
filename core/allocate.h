#pragma once

#include <cstddef>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"

namespace lutsmith {

/// A vector of `count` zeros, or out_of_memory where others throw. `what` names it in the message.
template <class T>
Result<std::vector<T>> allocate(std::size_t count, std::string_view what) {
  try {
    return std::vector<T>(count);
  } catch (const std::exception&) {  // bad_alloc or, past what a vector can count, length_error
    return std::unexpected(Error{ErrorCode::out_of_memory,
                                 std::string(what) + ": no memory for " + std::to_string(count) + " x " +
                                     std::to_string(sizeof(T)) + " bytes",
                                 {}});
  }
}

}  // namespace lutsmith
