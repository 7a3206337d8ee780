#include "mounts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace lutsmith {
namespace {

constexpr int kNotPermitted = 77;

bool enter_namespace() {
  const uid_t user = geteuid();
  const gid_t group = getegid();
  if (unshare(CLONE_NEWNS) != 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << fmt::format("0 {} 1", user);
    std::ofstream("/proc/self/gid_map") << fmt::format("0 {} 1", group);
  }
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

}  // namespace

MountedRun in_mount_namespace(const std::function<bool()>& work) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    if (!enter_namespace()) _exit(kNotPermitted);
    const bool good = work() && !testing::Test::HasFailure();
    std::fflush(nullptr);
    _exit(good ? 0 : 1);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return MountedRun::bad;
  if (WEXITSTATUS(status) == kNotPermitted) return MountedRun::not_permitted;
  return WEXITSTATUS(status) == 0 ? MountedRun::good : MountedRun::bad;
}

bool mount_tmpfs(const std::filesystem::path& at, const std::string& options, unsigned long flags) {
  std::filesystem::create_directories(at);
  return mount("tmpfs", at.c_str(), "tmpfs", flags, ("mode=0700," + options).c_str()) == 0;
}

bool remount_read_only(const std::filesystem::path& at) {
  return mount("none", at.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0;
}

}  // namespace lutsmith
