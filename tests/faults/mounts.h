#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace lutsmith {

/// What a child in a mount namespace of its own ended with.
enum class MountedRun { good, bad, not_permitted };

/// Runs `work` in a child process that may mount file systems which nobody else sees. True is good. Not
/// permitted where neither the superuser's rights nor user namespaces are to be had.
MountedRun in_mount_namespace(const std::function<bool()>& work);

/// For use in such a child. Whether it worked.
bool mount_tmpfs(const std::filesystem::path& at, const std::string& options, unsigned long flags = 0);
bool remount_read_only(const std::filesystem::path& at);

}  // namespace lutsmith

/// Fails the test where the work did, and skips it, saying why, where nothing may be mounted.
#define EXPECT_GOOD_IN_MOUNT_NAMESPACE(work)                                                         \
  switch (lutsmith::in_mount_namespace(work)) {                                                      \
    case lutsmith::MountedRun::good:                                                                 \
      break;                                                                                         \
    case lutsmith::MountedRun::bad:                                                                  \
      ADD_FAILURE() << "see above";                                                                  \
      break;                                                                                         \
    case lutsmith::MountedRun::not_permitted:                                                        \
      GTEST_SKIP() << "needs the right to mount: run as root, or where user namespaces are allowed"; \
  }                                                                                                  \
  static_assert(true)
