#include "choices/source.h"

#include <fmt/format.h>

#include <utility>

#include "choices/document_entry.h"
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
  std::optional<Choice> choice = tuned(spec, *gpu);
  // What is made of the sums costs next to nothing, whatever the schedule.
  const KernelSpec plain = without_epilogue(spec);
  if (!choice && plain != spec) choice = tuned(plain, *gpu);
  if (choice && !validate(spec, choice->schedule)) choice.reset();  // its tiles lie in two segments of rows
  if (choice) {
    result->insert(result->begin(), {.choice = *choice, .origin = ChoiceOrigin::tuned});
  }
  return result;
}

std::optional<Choice> TunedSource::tuned(const KernelSpec& spec, const Gpu& gpu) {
  const std::shared_ptr<const Document> known = document(gpu);
  if (const Entry* entry = known->find(spec)) return entry->chosen();
  if (std::optional<Choice> choice = shared(spec, gpu)) return choice;
  if (const Entry* entry = find_shipped(gpu, spec)) return entry->chosen();
  return std::nullopt;
}

/// A spec is chosen for alike as long as the source lives, though the server may be down for a while.
std::optional<Choice> TunedSource::shared(const KernelSpec& spec, const Gpu& gpu) {
  if (shared_ == nullptr) return std::nullopt;
  const cache::Key key = key_of(gpu, spec);
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = answers_.find(key); known != answers_.end()) return known->second;
  }
  // Without the lock: nobody waits for a server because of another's spec.
  const std::optional<Entry> entry = shared_->find(gpu, spec);
  const std::lock_guard lock(mutex_);
  return answers_.try_emplace(key, entry ? std::optional(entry->chosen()) : std::nullopt).first->second;
}

std::shared_ptr<const Document> TunedSource::document(const Gpu& gpu) {
  const std::string name = file_name(gpu);
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const Document>& known = documents_[name];
  if (known == nullptr) known = std::make_shared<const Document>(database_.read_directories(gpu, complain_));
  return known;
}

void TunedSource::refresh() {
  const std::lock_guard lock(mutex_);
  documents_.clear();
  answers_.clear();
}

Result<std::vector<Candidate>> PinnedSource::candidates(const KernelSpec& spec, const Gpu* gpu) {
  const Entry* entry = document_.find(spec);
  if (entry == nullptr) entry = document_.find(without_epilogue(spec));
  if (entry != nullptr && validate(spec, entry->chosen().schedule)) {
    return std::vector{Candidate{.choice = entry->chosen(), .origin = ChoiceOrigin::tuned}};
  }
  if (missing_ == Missing::model) return model_.candidates(spec, gpu);
  return std::unexpected(Error{
      ErrorCode::not_found,
      fmt::format("{}: the pinned choices, of {}, have none for it; add it with `lutsmith tune{}`, or allow "
                  "the cost model's with LUTSMITH_TUNING_MISSING=model",
                  lutsmith::describe(spec), describe(document_.gpu()), core::command_options(spec)),
      ""});
}

}  // namespace lutsmith::choices
