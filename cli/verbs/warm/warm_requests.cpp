#include "cli/verbs/warm/warm_requests.h"

#include <fmt/format.h>

#include <charconv>
#include <ranges>
#include <set>
#include <utility>

#include "choices/source.h"
#include "cli/options/manifest.h"
#include "cli/output/output.h"
#include "core/result.h"
#include "runtime/kernel_provider.h"

namespace lutsmith::cli {
namespace {

/// What decides which kernel a request gets: its spec but for the tokens, and the schedules that the service
/// may try, in its order. The source of a kernel depends on the tokens by its schedule alone.
Result<std::string> identity_of(const KernelRequest& request) {
  std::vector<Schedule> candidates;
  if (request.schedule) {
    candidates = {*request.schedule};
  } else {
    auto all = schedules(request.spec);
    if (!all) return std::unexpected(all.error());
    candidates = *std::move(all);
  }
  KernelSpec spec = request.spec;
  spec.m = 1;
  std::string identity = describe(spec);
  for (const Schedule& schedule : candidates | std::views::take(kMostCandidatesTried)) {
    identity += "; " + describe(schedule);
  }
  return identity;
}

void print_complaint(std::string_view complaint) { print_warning(std::string(complaint)); }

}  // namespace

Result<std::vector<KernelRequest>> warm_requests(const SpecOptions& options, const std::string& manifest) {
  const SpecText& given = options.text;
  std::vector<ManifestEntry> entries;
  if (!manifest.empty()) {
    // Shapes of the command line are asked for beside those of the manifest, not by its entries.
    ManifestEntry defaults{.text = given, .schedule = options.schedule};
    defaults.text.model.clear();
    defaults.text["n"].clear();
    defaults.text["k"].clear();
    auto read = read_manifest(manifest, defaults);
    if (!read) return std::unexpected(read.error());
    entries = *std::move(read);
    if (entries.empty()) print_warning(fmt::format("manifest '{}' asks for no kernel", manifest));
  }
  const std::size_t in_manifest = entries.size();
  if (manifest.empty() || !given.model.empty() || !given["n"].empty() || !given["k"].empty()) {
    entries.push_back({.text = given, .schedule = options.schedule});
  }
  std::vector<KernelRequest> result;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    auto requests = expand(entries[i].text, entries[i].schedule);
    if (!requests) {
      Error error = requests.error();
      if (i < in_manifest) error.message = fmt::format("manifest entry {}: {}", i, error.message);
      return std::unexpected(std::move(error));
    }
    for (KernelRequest& request : requests->kernels) result.push_back(std::move(request));
  }
  return result;
}

Result<std::vector<KernelRequest>> without_duplicates(const std::vector<KernelRequest>& requests) {
  std::set<std::string> seen;
  std::vector<KernelRequest> result;
  for (const KernelRequest& request : requests) {
    auto identity = identity_of(request);
    if (!identity) return std::unexpected(identity.error());
    if (seen.insert(*std::move(identity)).second) result.push_back(request);
  }
  return result;
}

Result<std::vector<KernelRequest>> with_tuned_choices(const std::vector<KernelRequest>& requests,
                                                      const choices::Database& database,
                                                      const std::string& gpu,
                                                      std::shared_ptr<choices::SharedChoices> shared) {
  std::vector<choices::Gpu> gpus;
  choices::Complain complain;  // what is wrong with documents is told once
  if (gpu.empty()) {
    for (const choices::Document& document : database.read_all(print_complaint))
      gpus.push_back(document.gpu());
  } else {
    Result<choices::Gpu> found = database.find_gpu(gpu);
    if (!found) return failure(found);
    gpus.push_back(*std::move(found));
    complain = print_complaint;
  }
  // In the order in which a service with such a GPU asks.
  choices::TunedSource source(database, complain, std::move(shared));
  std::vector<KernelRequest> result;
  for (const KernelRequest& request : requests) {
    result.push_back(request);
    if (request.schedule) continue;
    for (const choices::Gpu& each : gpus) {
      if (each.target != request.spec.target) continue;
      const Result<std::vector<choices::Candidate>> candidates = source.candidates(request.spec, &each);
      if (!candidates || candidates->empty()) continue;  // told when it is compiled
      if (candidates->front().origin != ChoiceOrigin::tuned) continue;
      result.push_back(request);
      result.back().schedule = candidates->front().choice.schedule;
    }
  }
  return result;
}

Result<WorkPart> parse_shard(const std::string& text) {
  WorkPart part;
  const char* end = text.data() + text.size();
  const auto index = std::from_chars(text.data(), end, part.index);
  if (index.ec == std::errc{} && index.ptr != end && *index.ptr == '/') {
    const auto count = std::from_chars(index.ptr + 1, end, part.count);
    if (count.ec == std::errc{} && count.ptr == end && part.index >= 1 && part.index <= part.count) {
      return part;
    }
  }
  return std::unexpected(Error{ErrorCode::invalid_argument,
                               fmt::format("shard: '{}' is not allowed; allowed: 1/4, 2/4, ... 4/4", text),
                               {}});
}

std::vector<KernelRequest> part_of(const std::vector<KernelRequest>& requests, WorkPart part) {
  std::vector<KernelRequest> result;
  for (std::size_t i = part.index - 1; i < requests.size(); i += part.count) result.push_back(requests[i]);
  return result;
}

}  // namespace lutsmith::cli
