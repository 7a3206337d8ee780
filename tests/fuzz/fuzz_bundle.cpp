// Bundles up to their entries, and the indices of bundles: an input is taken for the one, then for the
// other.

#include <algorithm>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "cache/bundles/bundle_format.h"
#include "harness.h"

namespace lutsmith::fuzz {
namespace {

using cache::BundleHead;
using cache::BundleIndex;

bool is_refusal(ErrorCode code) { return code == ErrorCode::corrupt_data || code == ErrorCode::unsupported; }

bool lies_in(std::span<const std::byte> part, std::span<const std::byte> whole) {
  return part.data() >= whole.data() && part.size() <= whole.size() &&
         static_cast<std::size_t>(part.data() - whole.data()) <= whole.size() - part.size();
}

/// What was read can be written, and is then read as the same. Nobody signs here.
void rewrite(BundleIndex index) {
  index.signer.clear();
  const Result<std::vector<std::byte>> written = write_bundle_head(index, nullptr);
  require(written.has_value(), "an index that was read can be written");
  const Result<BundleHead> head = cache::parse_bundle_head(*written);
  require(head.has_value() && head->bytes == written->size() && !head->signature,
          "a head is read as it was written");
  const Result<BundleIndex> again = cache::parse_bundle_index(head->index);
  require(again.has_value() && *again == index, "an index is read as it was written");
}

void check_index(std::string_view json) {
  const Result<BundleIndex> index = cache::parse_bundle_index(json);
  if (!index) return require(is_refusal(index.error().code), "an index that is refused is corrupt or newer");
  for (const cache::BundledEntry& entry : index->entries) {
    require(entry.bytes >= 1 && entry.bytes <= cache::kMaxEntryBytes,
            "entries are as long as entries may be");
    require(cache::Key::parse(entry.sha256).has_value(), "digests are digests");
  }
  const auto falls =
      std::ranges::adjacent_find(index->entries, std::ranges::greater_equal{}, &cache::BundledEntry::key);
  require(falls == index->entries.end(), "keys rise, and none is there twice");
  rewrite(*index);
}

void check_head(std::span<const std::byte> bytes) {
  const Result<std::size_t> longest = cache::bundle_head_bytes(bytes);
  const Result<BundleHead> head = cache::parse_bundle_head(bytes);
  if (!head) return require(is_refusal(head.error().code), "a bundle that is refused is corrupt or newer");
  require(longest.has_value(), "a head that is read tells its length");
  require(head->bytes <= bytes.size() && head->bytes <= *longest, "a head ends within its bundle");
  require(lies_in(head->covered, bytes), "what is signed lies within the bundle");
  require(lies_in(std::as_bytes(std::span(head->index)), head->covered), "the index is signed");
  require(head->covered.size() < head->bytes, "the entries begin behind what is signed");
  check_index(head->index);
}

}  // namespace
}  // namespace lutsmith::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lutsmith::fuzz;
  const std::span bytes(data, size);
  check_head(std::as_bytes(bytes));
  check_index({reinterpret_cast<const char*>(data), size});
  return 0;
}
