#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <mutex>

namespace lutsmith::core {

struct ScratchRegistry;

/// While one lives, `remove_scratch` waits and no other thread registers or forgets anything. Held across
/// making something and registering it, or across giving it its final name and forgetting it, so that a
/// program that is ended in between leaves nothing behind. Not to be held across a destructor of a `Scratch`,
/// which takes it too.
class ScratchLock {
 public:
  ScratchLock();

 private:
  friend class Scratch;
  friend ScratchLock remove_scratch();

  ScratchRegistry* registry_;
  std::unique_lock<std::mutex> lock_;
};

/// Something that exists only while work is under way: registered from here to `forget` or the destructor. It
/// is the holder who removes it when the work ends as it should; `remove_scratch` does where the program is
/// ended before.
///
/// A forked copy of the process registers anew, and nothing of what its original made is its own.
class Scratch {
 public:
  Scratch() = default;
  static Scratch file(const ScratchLock& lock, const std::filesystem::path& path);
  /// With all that is in it.
  static Scratch folder(const ScratchLock& lock, const std::filesystem::path& path);
  /// A child that leads a process group of its own, so that its children end with it. To be forgotten before
  /// it is waited for: once it is, its number may be another's.
  static Scratch process_group(const ScratchLock& lock, pid_t leader);

  Scratch(Scratch&& other) noexcept;
  Scratch& operator=(Scratch&& other) noexcept;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();

  void forget(const ScratchLock& lock);
  /// Whether it is registered, by this process: false in a forked copy, which must leave it alone.
  bool owned() const;

 private:
  Scratch(ScratchRegistry* registry, std::uint64_t number);
  void forget();

  ScratchRegistry* registry_ = nullptr;
  std::uint64_t number_ = 0;
};

/// Kills the process groups and then removes the files and folders that are registered. For a program that is
/// about to end: while the lock it returns lives, nothing new can be registered and nothing is given its
/// final name.
[[nodiscard]] ScratchLock remove_scratch();

}  // namespace lutsmith::core
