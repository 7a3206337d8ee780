#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "cache/stores/store.h"
#include "choices/database.h"
#include "choices/document.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith::choices {

/// Tuned choices on the server that has kernels, too: an entry for each spec and model of GPU
/// (document_entry.h). A fault of the server costs its choices and one complaint, no more. What it had and
/// cannot be used is told each time and counts as missing. Thread-safe.
class SharedChoices {
 public:
  /// `complain` may be empty.
  SharedChoices(std::shared_ptr<cache::Store> server, Complain complain)
      : server_(std::move(server)), complain_(std::move(complain)) {}

  /// Asks for the choice for a spec's token bucket.
  std::optional<Entry> find(const Gpu& gpu, const KernelSpec& spec);

  /// Sends an entry, unless the server has one that it does not supersede, or one of a later version of the
  /// library. Of two that are sent at the same moment either may stay.
  void send(const Gpu& gpu, const Entry& entry);

  /// For each of the specs: adds to `own` what the server has and supersedes what is there, and sends what
  /// supersedes the server's. How many were added.
  std::size_t exchange(const Database& own, const Gpu& gpu, std::span<const KernelSpec> specs);

 private:
  struct Answer {
    std::optional<Entry> entry;
    bool replaceable = true;  ///< false: it is a later version's
  };
  Answer ask(const Gpu& gpu, const KernelSpec& spec);
  void put(const Gpu& gpu, const Entry& entry, const Answer& present);
  void complain_of_server(std::string_view what);

  std::shared_ptr<cache::Store> server_;
  Complain complain_;
  std::atomic<bool> complained_{false};  ///< of the server itself: it would be the same at every spec
};

}  // namespace lutsmith::choices
