#pragma once

namespace lutsmith {

/// While one of these exists, publishing a file fails with `error_number`, as a network file system's rename
/// can. (This program's renameat, which takes the place of libc's, asks for it.)
class FailingRename {
 public:
  explicit FailingRename(int error_number);
  FailingRename(const FailingRename&) = delete;
  FailingRename& operator=(const FailingRename&) = delete;
  ~FailingRename();
};

}  // namespace lutsmith
