#include "choices/source.h"

#include <fmt/format.h>

#include <utility>

#include "core/field_text.h"
#include "core/result.h"
#include "lutsmith/codegen.h"

namespace lutsmith::choices {

Result<std::vector<Candidate>> ModelSource::candidates(const KernelSpec& spec, const Gpu* /*gpu*/) {
  Result<std::vector<Schedule>> ranked = schedules(spec);
  if (!ranked) return failure(ranked);
  std::vector<Candidate> result;
  result.reserve(ranked->size());
  for (Schedule& schedule : *ranked) result.push_back({.choice = schedule});
  return result;
}

Result<std::vector<Candidate>> TunedSource::candidates(const KernelSpec& spec, const Gpu* gpu) {
  Result<std::vector<Candidate>> result = model_.candidates(spec, gpu);
  if (!result || gpu == nullptr || gpu->target != spec.target) return result;
  const std::shared_ptr<const Document> known = document(*gpu);
  if (const Entry* entry = known->find(spec)) {
    result->insert(result->begin(), {.choice = entry->chosen(), .origin = ChoiceOrigin::tuned});
  }
  return result;
}

std::shared_ptr<const Document> TunedSource::document(const Gpu& gpu) {
  const std::string name = file_name(gpu);
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const Document>& known = documents_[name];
  if (known == nullptr) known = std::make_shared<const Document>(database_.read(gpu, complain_));
  return known;
}

void TunedSource::refresh() {
  const std::lock_guard lock(mutex_);
  documents_.clear();
}

Result<std::vector<Candidate>> PinnedSource::candidates(const KernelSpec& spec, const Gpu* gpu) {
  if (const Entry* entry = document_.find(spec)) {
    return std::vector{Candidate{.choice = entry->chosen(), .origin = ChoiceOrigin::tuned}};
  }
  if (missing_ == Missing::model) return model_.candidates(spec, gpu);
  return std::unexpected(
      Error{ErrorCode::not_found,
            fmt::format("{}: the pinned choices, of {}, have none for it; add it with `lutsmith tune{}`, or allow "
                        "the cost model's with LUTSMITH_TUNING_MISSING=model",
                        lutsmith::describe(spec), describe(document_.gpu()), core::command_options(spec)),
            ""});
}

}  // namespace lutsmith::choices
