#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "lutsmith/error.h"

namespace lutsmith::cache {

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

/// A file that appears under its name complete or not at all: written under a temporary name beside
/// it, brought to the disk, and renamed by `commit`. Without a successful commit nothing is left.
class AtomicFile {
 public:
  /// What follows the name of the file while it is being written; process id and a number follow.
  static constexpr std::string_view kTemporarySuffix = ".tmp.";

  /// `directory` stays open as long as this file; `path` is for messages.
  static Result<AtomicFile> create(const Descriptor& directory, std::string name,
                                   const std::filesystem::path& path);
  AtomicFile(AtomicFile&&) noexcept = default;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Result<void> write(std::span<const std::byte> bytes);
  Result<void> commit();

 private:
  AtomicFile(int directory, std::string name, std::string temporary, std::filesystem::path path,
             Descriptor file)
      : directory_(directory),
        name_(std::move(name)),
        temporary_(std::move(temporary)),
        path_(std::move(path)),
        file_(std::move(file)) {}

  int directory_;
  std::string name_;
  std::string temporary_;  ///< empty: there is none
  std::filesystem::path path_;
  Descriptor file_;
};

}  // namespace lutsmith::cache
