#pragma once

#include <string>
#include <utility>

namespace lutsmith::emulator {

/// A mistake of the kernel. Thrown in the thread that meets it; never leaves the emulator, whose
/// functions return Result.
class Fault {
 public:
  explicit Fault(std::string message) : message_(std::move(message)) {}
  const std::string& message() const { return message_; }

 private:
  std::string message_;
};

}  // namespace lutsmith::emulator
