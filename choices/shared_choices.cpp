#include "choices/shared_choices.h"

#include <fmt/format.h>

#include <utility>

#include "choices/document_entry.h"

namespace lutsmith::choices {

std::optional<Entry> SharedChoices::find(const Gpu& gpu, const KernelSpec& spec) {
  return ask(gpu, spec).entry;
}

SharedChoices::Answer SharedChoices::ask(const Gpu& gpu, const KernelSpec& spec) {
  const cache::Key key = key_of(gpu, spec);
  Result<cache::Lookup> found = server_->get(key);
  if (!found) {
    complain_of_server(found.error().message);
    return {};
  }
  if (found->state == cache::LookupState::miss) return {};
  const auto unusable = [&](std::string_view reason, bool replaceable) {
    if (complain_) {
      complain_(fmt::format("the server's tuned choice for {} on {} is not used: {}", name_in_document(spec),
                            describe(gpu), reason));
    }
    return Answer{.entry = {}, .replaceable = replaceable};
  };
  if (found->state != cache::LookupState::hit) {
    return unusable(found->note, found->state == cache::LookupState::damaged);
  }
  Result<Entry> entry = read_entry(gpu, spec, found->entry);
  if (!entry) return unusable(entry.error().message, entry.error().code != ErrorCode::unsupported);
  return {.entry = *std::move(entry)};
}

void SharedChoices::send(const Gpu& gpu, const Entry& entry) { put(gpu, entry, ask(gpu, entry.spec)); }

void SharedChoices::put(const Gpu& gpu, const Entry& entry, const Answer& present) {
  if (!present.replaceable || (present.entry && !supersedes(entry, *present.entry))) return;
  const cache::OtherEntry sent = to_entry(gpu, entry);
  // A server keeps what it has under a key, unless it is told that this is no good any more.
  static_cast<void>(server_->remove(sent.key));
  if (const Result<void> put = server_->put(sent.key, sent.entry); !put)
    complain_of_server(put.error().message);
}

std::size_t SharedChoices::exchange(const Database& own, const Gpu& gpu, std::span<const KernelSpec> specs) {
  const Document mine = own.read_own(gpu);
  Document later(gpu);
  for (const KernelSpec& spec : specs) {
    const Entry* here = mine.find(spec);
    const Answer there = ask(gpu, spec);
    if (there.entry && (here == nullptr || supersedes(*there.entry, *here))) {
      later.put(*there.entry);
    } else if (here != nullptr) {
      put(gpu, *here, there);
    }
  }
  if (later.entries().empty()) return 0;
  if (const Result<void> added = own.add(later); !added) {
    if (complain_)
      complain_(fmt::format("the server's tuned choices are not kept: {}", added.error().message));
    return 0;
  }
  return later.entries().size();
}

void SharedChoices::complain_of_server(std::string_view what) {
  if (!complain_ || complained_.exchange(true)) return;
  complain_(fmt::format("{}; tuned choices are not shared", what));
}

}  // namespace lutsmith::choices
