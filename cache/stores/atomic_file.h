#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/descriptor.h"
#include "lutsmith/error.h"

namespace lutsmith::cache {

/// A file that appears under its name complete or not at all: written under a temporary name beside
/// it, brought to the disk, and renamed by `commit`. Without a successful commit nothing is left.
class AtomicFile {
 public:
  /// What follows the name of the file while it is being written; process id and a number follow.
  static constexpr std::string_view kTemporarySuffix = ".tmp.";

  /// `directory` stays open as long as this file; `path` is for messages.
  static Result<AtomicFile> create(const core::Descriptor& directory, std::string name,
                                   const std::filesystem::path& path);
  AtomicFile(AtomicFile&&) noexcept = default;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Result<void> write(std::span<const std::byte> bytes);
  Result<void> commit();

 private:
  AtomicFile(int directory, std::string name, std::string temporary, std::filesystem::path path,
             core::Descriptor file)
      : directory_(directory),
        name_(std::move(name)),
        temporary_(std::move(temporary)),
        path_(std::move(path)),
        file_(std::move(file)) {}

  int directory_;
  std::string name_;
  std::string temporary_;  ///< empty: there is none
  std::filesystem::path path_;
  core::Descriptor file_;
};

}  // namespace lutsmith::cache
