#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

#include "lutsmith/error.h"

namespace lutsmith::core {

/// An Error with the reason the operating system gave: "cannot ACTION PATH: REASON".
Error system_error(int number, std::string_view action, const std::filesystem::path& path);

/// An open file or directory.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();

  bool valid() const { return number_ >= 0; }
  int number() const { return number_; }
  /// Closes now; what close() returned, since it can be the first to tell of a failed write.
  int close();

 private:
  int number_ = -1;
};

}  // namespace lutsmith::core
