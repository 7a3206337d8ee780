#include "core/scratch.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <map>
#include <system_error>
#include <thread>
#include <utility>

namespace lutsmith::core {

namespace {

enum class Kind { file, folder, process_group };

struct Entry {
  Kind kind = Kind::file;
  std::filesystem::path path;  // of a file or folder
  pid_t leader = 0;            // of a process group
};

}  // namespace

struct ScratchRegistry {
  std::uint64_t add(Entry entry) {
    entries.emplace(next_number, std::move(entry));
    return next_number++;
  }

  std::mutex mutex;
  std::map<std::uint64_t, Entry> entries;
  std::uint64_t next_number = 1;
  ScratchRegistry* original = nullptr;  // of the process that this one is a forked copy of
};

namespace {

std::atomic<ScratchRegistry*> current_registry = nullptr;

// The original's mutex may be locked for ever by a thread that the copy does not have, and its entries are
// not the copy's. It stays reachable, for what holds a pointer to it.
void start_anew_in_copy() {
  auto* const copy = new ScratchRegistry;
  copy->original = current_registry;
  current_registry = copy;
}

ScratchRegistry& registry() {
  static const bool made = [] {
    current_registry = new ScratchRegistry;
    // Without memory for the handler a fork goes unseen, as it would without us.
    return ::pthread_atfork(nullptr, nullptr, start_anew_in_copy) == 0;
  }();
  static_cast<void>(made);
  return *current_registry;
}

// The program may change its working directory; without one, the path is as good as any.
std::filesystem::path absolute_path(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path result = std::filesystem::absolute(path, error);
  return error ? path : result;
}

// What a killed process still had under way may add a file to a folder just as it is emptied.
void remove_folder(const std::filesystem::path& path) {
  constexpr int kAttempts = 100;
  constexpr std::chrono::milliseconds kPause(10);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (!error) return;
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

ScratchLock::ScratchLock() : registry_(&registry()), lock_(registry_->mutex) {}

Scratch::Scratch(ScratchRegistry* registry, std::uint64_t number) : registry_(registry), number_(number) {}

Scratch Scratch::file(const ScratchLock& lock, const std::filesystem::path& path) {
  return {lock.registry_, lock.registry_->add({.kind = Kind::file, .path = absolute_path(path)})};
}

Scratch Scratch::folder(const ScratchLock& lock, const std::filesystem::path& path) {
  return {lock.registry_, lock.registry_->add({.kind = Kind::folder, .path = absolute_path(path)})};
}

Scratch Scratch::process_group(const ScratchLock& lock, pid_t leader) {
  return {lock.registry_, lock.registry_->add({.kind = Kind::process_group, .path = {}, .leader = leader})};
}

Scratch::Scratch(Scratch&& other) noexcept
    : registry_(std::exchange(other.registry_, nullptr)), number_(other.number_) {}

Scratch& Scratch::operator=(Scratch&& other) noexcept {
  if (this != &other) {
    forget();
    registry_ = std::exchange(other.registry_, nullptr);
    number_ = other.number_;
  }
  return *this;
}

Scratch::~Scratch() { forget(); }

bool Scratch::owned() const { return registry_ != nullptr && registry_ == current_registry; }

void Scratch::forget(const ScratchLock& /*lock*/) {
  if (owned()) registry_->entries.erase(number_);
  registry_ = nullptr;
}

void Scratch::forget() {
  if (!owned()) return;
  const ScratchLock lock;
  forget(lock);
}

ScratchLock remove_scratch() {
  ScratchLock lock;
  auto& entries = lock.registry_->entries;
  for (const auto& [number, entry] : entries) {
    if (entry.kind == Kind::process_group) ::kill(-entry.leader, SIGKILL);
  }
  for (const auto& [number, entry] : entries) {
    if (entry.kind == Kind::file) ::unlink(entry.path.c_str());
    if (entry.kind == Kind::folder) remove_folder(entry.path);
  }
  entries.clear();
  return lock;
}

}  // namespace lutsmith::core
