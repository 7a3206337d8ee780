#include "cache/stores/store.h"

#include <utility>

#include "core/result.h"

namespace lutsmith::cache {

Result<Lookup> Store::get_usable(const Key& key, Reach /*reach*/, const Judge& judge) {
  Result<Lookup> found = get(key);
  if (!found || found->state != LookupState::hit) return found;
  switch (judge(found->entry)) {
    case Verdict::usable:
      return found;
    case Verdict::newer:
      return Lookup{.state = LookupState::newer, .entry = {}, .note = {}, .tier = found->tier};
    case Verdict::unusable:
      break;
  }
  if (Result<bool> removed = remove(key); !removed) return failure(removed);
  return Lookup{};
}

}  // namespace lutsmith::cache
