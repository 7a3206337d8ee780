#include "choices/document.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "codegen/families.h"

namespace lutsmith::choices {

std::string name_in_document(KernelSpec spec) {
  spec.m = token_bucket(spec.m);
  return lutsmith::describe(spec);
}

bool supersedes(const Entry& other, const Entry& mine) {
  if (other.conditions.measured != mine.conditions.measured) {
    return other.conditions.measured > mine.conditions.measured;  // ISO 8601 sorts by time
  }
  return other.choice.microseconds < mine.choice.microseconds;
}

std::string_view to_string(Quality quality) {
  switch (quality) {
    case Quality::good:
      return "good";
    case Quality::noisy:
      return "noisy";
    case Quality::throttled:
      return "throttled";
    case Quality::busy:
      return "busy";
  }
  return "unknown";
}

std::string describe_quality(const Conditions& conditions) {
  std::string text(to_string(conditions.quality));
  if (conditions.power_capped.value_or(false)) text += ", power-capped";
  return text;
}

std::string describe(const Gpu& gpu) {
  return fmt::format("{}, {} multiprocessors", gpu.name, gpu.multiprocessors);
}

const Entry* Document::find(const KernelSpec& spec) const {
  const auto found = entries_.find(name_in_document(spec));
  return found != entries_.end() ? &found->second : nullptr;
}

void Document::put(Entry entry) {
  std::string name = name_in_document(entry.spec);
  entries_.insert_or_assign(std::move(name), std::move(entry));
}

void Document::merge(const Document& other) {
  for (const auto& [name, entry] : other.entries_) {
    const auto [place, added] = entries_.try_emplace(name, entry);
    if (!added && supersedes(entry, place->second)) place->second = entry;
  }
  for (const std::string& entry : other.unread_) {
    if (std::ranges::find(unread_, entry) == unread_.end()) unread_.push_back(entry);
  }
}

std::string file_name(const Gpu& gpu) {
  std::string name;
  for (const char c : gpu.name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (plain) {
      name += c;
    } else if (c >= 'A' && c <= 'Z') {
      name += static_cast<char>(c - 'A' + 'a');
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  return fmt::format("{}-{}.v{}.json", name, gpu.multiprocessors, kSchema);
}

}  // namespace lutsmith::choices
