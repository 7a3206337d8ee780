#pragma once

#include <expected>
#include <string>
#include <string_view>

namespace lutsmith {

/// What kind of failure an `Error` is. Programs branch on this; people read `Error::message`.
enum class ErrorCode {
  invalid_argument,    ///< a value the caller gave is outside what is allowed
  not_found,           ///< a file, library, symbol or device is missing
  unsupported,         ///< well-formed, but not on this compiler, driver or GPU
  compilation_failed,  ///< a compiler refused the source; `context` holds its log
  corrupt_data,        ///< a file or buffer contradicts its own format
  io_error,            ///< the operating system refused a read or a write
  driver_error,        ///< the CUDA driver returned an error
  out_of_memory,       ///< host or device memory ran out
  kernel_fault,        ///< the emulator caught a kernel in a mistake; `context` holds more lines
};

/// The name of a code as printed in messages and JSON, such as "invalid_argument".
constexpr std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::compilation_failed:
      return "compilation_failed";
    case ErrorCode::corrupt_data:
      return "corrupt_data";
    case ErrorCode::io_error:
      return "io_error";
    case ErrorCode::driver_error:
      return "driver_error";
    case ErrorCode::out_of_memory:
      return "out_of_memory";
    case ErrorCode::kernel_fault:
      return "kernel_fault";
  }
  return "unknown";
}

/// The one error type of the library.
struct Error {
  ErrorCode code;
  /// One line: what was given, what is allowed, what to do next.
  std::string message;
  /// More lines where they help (a compiler's log, the paths that were searched); often empty.
  std::string context;
};

/// A value, or the reason there is none. No function of the library throws, but for
/// std::bad_alloc where the host has no memory left for a message.
template <class T>
using Result = std::expected<T, Error>;

}  // namespace lutsmith
