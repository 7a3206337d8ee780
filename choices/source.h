#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "cache/key.h"
#include "choices/database.h"
#include "choices/document.h"
#include "choices/shared_choices.h"
#include "lutsmith/choice.h"
#include "lutsmith/error.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith::choices {

/// A choice that may be made, and who makes it.
struct Candidate {
  Choice choice;
  ChoiceOrigin origin = ChoiceOrigin::model;
};

/// Where choices come from.
class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  /// Choices for a valid spec on a GPU (null: on one that is not known), the best first; whoever cannot take
  /// one takes the next. None where there is no kernel for such a spec. Errors: those of `schedules`;
  /// not_found where the source knows of no choice and does not want another's. Thread-safe.
  virtual Result<std::vector<Candidate>> candidates(const KernelSpec& spec, const Gpu* gpu) = 0;

  /// Looks again for what others have added.
  virtual void refresh() {}
};

/// The cost model's: depends on the spec alone.
class ModelSource final : public Source {
 public:
  Result<std::vector<Candidate>> candidates(const KernelSpec& spec, const Gpu* gpu) override;
};

/// What was tuned on a GPU of the same model, with the cost model behind it. A spec for which the directories
/// have nothing is asked for on the server, once; what comes with the library counts after that.
class TunedSource final : public Source {
 public:
  /// `complain` may be empty, and `shared` null.
  TunedSource(Database database, Complain complain, std::shared_ptr<SharedChoices> shared = nullptr)
      : database_(std::move(database)), complain_(std::move(complain)), shared_(std::move(shared)) {}

  Result<std::vector<Candidate>> candidates(const KernelSpec& spec, const Gpu* gpu) override;
  void refresh() override;
  const Database& database() const { return database_; }

 private:
  std::shared_ptr<const Document> document(const Gpu& gpu);
  std::optional<Choice> tuned(const KernelSpec& spec, const Gpu& gpu);
  std::optional<Choice> shared(const KernelSpec& spec, const Gpu& gpu);

  Database database_;
  Complain complain_;
  std::shared_ptr<SharedChoices> shared_;
  ModelSource model_;
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const Document>> documents_;  ///< by file name
  std::map<cache::Key, std::optional<Choice>> answers_;                         ///< of the server
};

/// What a source does about a spec that a pinned document has no entry for.
enum class Missing { error, model };

/// The choices of one document and no others, so that all processes that read it choose alike.
class PinnedSource final : public Source {
 public:
  PinnedSource(Document document, Missing missing) : document_(std::move(document)), missing_(missing) {}

  Result<std::vector<Candidate>> candidates(const KernelSpec& spec, const Gpu* gpu) override;

 private:
  Document document_;
  Missing missing_;
  ModelSource model_;
};

}  // namespace lutsmith::choices
