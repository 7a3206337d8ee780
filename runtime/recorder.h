#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "core/descriptor.h"
#include "lutsmith/error.h"
#include "runtime/request.h"

namespace lutsmith {

/// Writes every request that it has not seen yet to a file, one JSON object a line: a manifest that
/// `lutsmith warm` reads. Many processes of one machine may write to one file. Thread-safe.
class Recorder {
 public:
  /// Creates the file where it is missing; requests that stand in it are not written again. Errors: io_error;
  /// invalid_argument where it is not a regular file.
  static Result<std::unique_ptr<Recorder>> open(const std::filesystem::path& path);

  Result<void> record(const Request& request);

 private:
  Recorder(std::filesystem::path path, core::Descriptor file, std::unordered_set<std::string> known)
      : path_(std::move(path)), file_(std::move(file)), known_(std::move(known)) {}

  std::filesystem::path path_;
  core::Descriptor file_;
  std::mutex mutex_;
  std::unordered_set<std::string> known_;
  bool torn_ = false;  ///< the last line was cut off: the disk was full
};

}  // namespace lutsmith
