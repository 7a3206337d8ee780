#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "choices/document.h"
#include "lutsmith/service.h"
#include "runtime/striped.h"

namespace lutsmith {

class LoadedKernel;

/// A loaded kernel where it is kept. Requests are answered with a pointer to it, and only the last hand
/// copies the shared pointer: each hand-over takes a tenth of a warm request.
using SharedKernel = StripedPointer<const LoadedKernel>;

/// What a request was answered with and is answered with again: the compiled kernel, and the same loaded in
/// every CUDA context that asked for it. Those are few, so they stand in a list; reading it takes no lock.
class KnownKernel {
 public:
  /// `final`: the same request will always get it on a GPU of that model.
  KnownKernel(const std::shared_ptr<const Artifact>& artifact, const Choice& choice, ChoiceOrigin chosen_by,
              std::optional<choices::Gpu> gpu, bool final)
      : artifact_(artifact), choice_(choice), chosen_by_(chosen_by), gpu_(std::move(gpu)), final_(final) {}
  KnownKernel(KnownKernel&& other) noexcept
      : loaded_(other.loaded_.exchange(nullptr)),
        artifact_(std::move(other.artifact_)),
        choice_(other.choice_),
        chosen_by_(other.chosen_by_),
        gpu_(std::move(other.gpu_)),
        final_(other.final_) {}
  KnownKernel& operator=(KnownKernel&&) = delete;
  ~KnownKernel() {
    for (const Loaded* each = loaded_; each != nullptr;) {
      const std::unique_ptr<const Loaded> owned(each);
      each = each->next;
    }
  }

  std::shared_ptr<const Artifact> artifact() const { return artifact_.get(); }
  const Choice& choice() const { return choice_; }
  ChoiceOrigin chosen_by() const { return chosen_by_; }
  bool final() const { return final_; }
  /// Whether the request always gets it on that GPU (null: none is known).
  bool answers(const choices::Gpu* gpu) const {
    return final_ && (gpu == nullptr ? !gpu_ : gpu_ && *gpu_ == *gpu);
  }

  /// Null where it was not loaded in the context with that id; else there for as long as this is.
  const SharedKernel* loaded_in(std::uint64_t context) const {
    const Loaded* each = loaded_.load(std::memory_order_acquire);
    while (each != nullptr && each->context != context) each = each->next;
    return each != nullptr ? &each->kernel : nullptr;
  }

  /// Where it is kept.
  const SharedKernel* keep_loaded(std::uint64_t context,
                                  const std::shared_ptr<const LoadedKernel>& kernel) const {
    auto added = std::make_unique<Loaded>(context, SharedKernel(kernel), loaded_.load());
    while (!loaded_.compare_exchange_weak(added->next, added.get(), std::memory_order_acq_rel)) {
    }
    return &added.release()->kernel;
  }

 private:
  struct Loaded {
    std::uint64_t context;
    SharedKernel kernel;
    const Loaded* next;
  };

  mutable std::atomic<const Loaded*> loaded_{nullptr};  // first: what a warm request wants
  StripedPointer<const Artifact> artifact_;
  Choice choice_;
  ChoiceOrigin chosen_by_;
  std::optional<choices::Gpu> gpu_;
  bool final_;
};

}  // namespace lutsmith
