// Entries of the cache, and what is in them: manifests and cubins. The first byte of an input says what the
// rest of it is, so that one corpus has them all:
//
//   e  an entry; taken as it is, then with the right digest in place of its last 32 bytes, since a wrong one
//      would stop nearly every change right there
//   b  an entry's body: magic and version are put in front, the digest behind
//   c  an entry's contents: the manifest up to the first zero byte, and the payload after it
//   m  a manifest
//   n  the numbers of a manifest, as in Numbers: mutations seldom make another number out of a number in text
//   x  a cubin

#include <llvm/ADT/ArrayRef.h>
#include <llvm/Support/SHA256.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cache/entry.h"
#include "harness.h"
#include "numbers.h"
#include "runtime/cubin.h"
#include "runtime/manifest.h"

namespace lutsmith::fuzz {
namespace {

using cache::Entry;

constexpr std::size_t kDigestBytes = 32;
constexpr std::size_t kStartBytes = 8 + 4;  // magic and version
// To pack and unpack the 64 MiB that a few bytes can unpack to takes longer than a thousand other inputs.
constexpr std::size_t kMaxRepeatedBytes = std::size_t{1} << 20;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_refusal(const Error& error) {
  return error.code == ErrorCode::corrupt_data || error.code == ErrorCode::unsupported;
}

void check_kernel(std::span<const std::byte> cubin, Target target, std::string_view kernel) {
  const Result<void> checked = check_cubin(cubin, target, kernel);
  require(checked.has_value() || checked.error().code == ErrorCode::corrupt_data,
          "a cubin that is refused is called corrupt");
}

Artifact artifact_of(const Description& described) {
  return {.key = described.key, .kernel_name = described.kernel_name, .launch = {}, .cubin = {}};
}

/// What is described can be written, and then describes the same again.
void rewrite(const Description& described) {
  const std::string manifest =
      write_manifest(described.spec, described.schedule, artifact_of(described), described.provenance);
  const Result<Description> again = read_description(manifest);
  require(again.has_value(), "what was written of a description can be read");
  require(again->key == described.key && again->kernel_name == described.kernel_name,
          "key and kernel name are read as written");
  require(again->spec == described.spec && again->schedule == described.schedule,
          "spec and schedule are read as written");
  require(again->provenance.compiler == described.provenance.compiler &&
              again->provenance.options == described.provenance.options &&
              again->provenance.source_bytes == described.provenance.source_bytes,
          "the provenance is read as written");
  require(read_manifest(manifest, artifact_of(described)).has_value(), "a manifest fits its own artifact");
}

std::optional<Description> check_manifest(std::string_view manifest) {
  Result<Description> described = read_description(manifest);
  const Result<Artifact> artifact = read_manifest(manifest, described ? artifact_of(*described) : Artifact());
  require(artifact
              ? artifact->registers >= 0 && artifact->static_shared_bytes >= 0 && artifact->spill_bytes >= 0
              : is_refusal(artifact.error()),
          "counts are not negative, and a manifest that is refused is called corrupt or newer");
  if (!described) {
    require(is_refusal(described.error()), "a description that is refused is called corrupt or newer");
    require(artifact.has_value() || (artifact.error().code == ErrorCode::unsupported) ==
                                        (described.error().code == ErrorCode::unsupported),
            "both readers agree on what is newer");
    return std::nullopt;
  }
  rewrite(*described);
  const Result<Source> source = source_of(*described);
  require(!source || !source->text.empty(), "a source that is found has a text");
  return std::move(*described);
}

void check_numbers(std::span<const std::byte> bytes) {
  Numbers numbers;
  std::memcpy(&numbers, bytes.data(), std::min(bytes.size(), sizeof(numbers)));
  const Artifact artifact{.key = "key", .kernel_name = "kernel", .launch = {}, .cubin = {}};
  check_manifest(write_manifest(spec_of(numbers), schedule_of(numbers), artifact, {}));
}

/// An entry that was accepted, whoever wrote it.
void check_entry(const Entry& entry) {
  require(entry.manifest.size() <= cache::kMaxManifestBytes, "no manifest is longer than allowed");
  require(entry.payload.size() <= cache::kMaxPayloadBytes, "no payload is longer than allowed");
  if (entry.payload.size() <= kMaxRepeatedBytes) {
    const Result<std::vector<std::byte>> encoded = encode(entry);
    require(encoded.has_value(), "an entry that was read can be written");
    require(encoded->size() <= cache::kMaxEntryBytes, "no entry is longer than allowed");
    require(cache::decode(*encoded) == entry, "an entry is read as it was written");
    require(cache::salvage_manifest(*encoded) == entry.manifest,
            "the manifest of a good entry can be salvaged");
  }
  const std::optional<Description> described = check_manifest(entry.manifest);
  check_kernel(entry.payload, *Target::parse("sm_90a"), "kernel");
  if (described) check_kernel(entry.payload, described->spec.target, described->kernel_name);
}

void check_bytes(std::span<const std::byte> bytes) {
  require(cache::salvage_manifest(bytes).size() <= bytes.size(), "no more is salvaged than there was");
  const Result<Entry> entry = cache::decode(bytes);
  if (entry) return check_entry(*entry);
  const ErrorCode code = entry.error().code;
  require(code == ErrorCode::corrupt_data || code == ErrorCode::unsupported || code == ErrorCode::not_found,
          "an entry that is refused is damaged, newer or older");
}

std::vector<std::byte> sealed(std::span<const std::byte> start, std::span<const std::byte> rest) {
  std::vector<std::byte> bytes(start.begin(), start.end());
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  const auto digest =
      llvm::SHA256::hash(llvm::ArrayRef(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
  const auto digest_bytes = std::as_bytes(std::span(digest));
  bytes.insert(bytes.end(), digest_bytes.begin(), digest_bytes.end());
  return bytes;
}

void check_body(std::span<const std::byte> body) {
  static const std::vector<std::byte> empty_entry = cache::encode({}).value();
  check_bytes(sealed(std::span(empty_entry).first(kStartBytes), body));
}

void check_contents(std::span<const std::byte> contents) {
  const auto end = std::ranges::find(contents, std::byte{0});
  const auto manifest = contents.first(static_cast<std::size_t>(end - contents.begin()));
  const auto payload = contents.subspan(std::min(manifest.size() + 1, contents.size()));
  check_entry({.manifest = std::string(text_of(manifest)), .payload = {payload.begin(), payload.end()}});
}

}  // namespace
}  // namespace lutsmith::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lutsmith::fuzz;
  if (size == 0) return -1;
  const std::span<const std::byte> rest = std::as_bytes(std::span(data, size)).subspan(1);
  switch (data[0]) {
    case 'e':
      check_bytes(rest);
      if (rest.size() >= kDigestBytes) check_bytes(sealed({}, rest.first(rest.size() - kDigestBytes)));
      return 0;
    case 'b':
      check_body(rest);
      return 0;
    case 'c':
      check_contents(rest);
      return 0;
    case 'm':
      check_manifest(text_of(rest));
      return 0;
    case 'n':
      check_numbers(rest);
      return 0;
    case 'x':
      check_kernel(rest, *lutsmith::Target::parse("sm_90a"), "kernel");
      return 0;
    default:
      return -1;
  }
}
