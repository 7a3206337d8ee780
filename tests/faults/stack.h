#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cache/stores/store.h"
#include "lutsmith/service.h"
#include "runtime/kernel_provider.h"
#include "temporary_directory.h"

namespace lutsmith {

/// How one process of a test is set up.
struct StackOptions {
  std::chrono::milliseconds compile_time{0};
  std::chrono::milliseconds longest_wait{600'000};
  unsigned jobs = 4;
  CompilePolicy policy = CompilePolicy::when_needed;
  /// Cache settings as a program gives them; the directory is the fixture's unless one is named.
  ServiceOptions service = {};
  /// Puts something between the provider and the real store.
  std::function<std::unique_ptr<cache::Store>(std::unique_ptr<cache::Store>)> wrap = {};
  /// What the compiler puts out; nothing: a small kernel.
  std::function<std::vector<std::byte>(Target, const std::string& kernel)> cubin = {};
  std::string compiler = "stand-in 1";
};

/// The stack of a service, with a stand-in for code generation and compiler: the provider over the tiers that
/// `open_store` gives. Counts compiles over all processes.
class FaultTest : public testing::Test {
 protected:
  std::unique_ptr<KernelProvider> provider(StackOptions options = {});

  static Request request(int number) {
    return {
        .spec = {.format = {.n = 32 * (number + 1), .k = 4096}, .m = 1, .target = *Target::parse("sm_90a")},
        .choice = {}};
  }
  /// The kernel of request(number), where `provider` gives one and it is the right one.
  static bool is_right(KernelProvider& provider, int number);
  /// Compiles so far, in all processes.
  int compiles() const;

  std::filesystem::path root() const { return directory_.path() / "cache"; }
  std::filesystem::path entry_file(const std::string& key) const {
    return root() / "v1" / key.substr(0, 2) / (key + ".lutk");
  }
  /// Files in the cache directory whose names hold `part`.
  std::vector<std::filesystem::path> files(const std::string& part) const;
  std::vector<std::string> warnings() const;

  TemporaryDirectory directory_;

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> warnings_;
};

/// Gives every call on, unless a test overrides it.
class ForwardingStore : public cache::Store {
 public:
  explicit ForwardingStore(std::unique_ptr<cache::Store> store) : store_(std::move(store)) {}
  Result<cache::Lookup> get(const cache::Key& key) override { return store_->get(key); }
  Result<void> put(const cache::Key& key, const cache::Entry& entry) override {
    return store_->put(key, entry);
  }
  Result<bool> remove(const cache::Key& key) override { return store_->remove(key); }
  Result<void> scan(const std::function<bool(const cache::StoredEntry&)>& visit) override {
    return store_->scan(visit);
  }
  bool flush(std::chrono::milliseconds longest) override { return store_->flush(longest); }
  cache::StoreStatistics statistics() const override { return store_->statistics(); }
  std::unique_ptr<cache::Claim> claim(const cache::Key& key, std::chrono::milliseconds longest) override {
    return store_->claim(key, longest);
  }

 private:
  std::unique_ptr<cache::Store> store_;
};

}  // namespace lutsmith
