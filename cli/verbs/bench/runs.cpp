#include "cli/verbs/bench/runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/field_text.h"
#include "core/parallel.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

// How many of a sweep's candidates are measured a second time, with care.
constexpr std::size_t kFinalists = 10;
constexpr measure::TimingOptions kBrief{.min_rounds = 9, .max_rounds = 15, .milliseconds_each = 15};

// A variant that compiled and gave the right result.
struct Entrant {
  BenchRow row;
  Kernel kernel;
};

bool is_default(const KernelSpec& spec, const Schedule& schedule, int partitions) {
  const Result<std::vector<Schedule>> candidates = schedules(spec);
  return partitions == 0 && candidates && !candidates->empty() && candidates->front() == schedule;
}

Result<Entrant> admit(BenchSession& session, measure::Product& product, const KernelRequest& request,
                      const BenchVariant& variant) {
  Result<Kernel> kernel = session.service().get(request.spec, variant.schedule);
  if (!kernel) return failure(kernel);
  Result<double> error = product.check(session.launcher(*kernel, variant.partitions));
  if (!error) return failure(error);
  BenchRow row;
  row.request = request;
  row.variant = variant;
  row.schedule = kernel->schedule();
  row.partitions =
      variant.partitions > 0 ? variant.partitions : kernel->default_partitions(product.tokens().m);
  row.is_default = is_default(request.spec, row.schedule, variant.partitions);
  row.bytes = product.packed_bytes();
  row.error = *error;
  return Entrant{std::move(row), std::move(*kernel)};
}

struct Field {
  std::vector<Entrant> entrants;
  std::vector<BenchRow> failures;
};

Field admit_all(BenchSession& session, measure::Product& product, const KernelRequest& request,
                const std::vector<BenchVariant>& variants) {
  std::vector<KernelChoice> kernels;
  for (const BenchVariant& variant : variants) {
    const KernelChoice kernel{request.spec, variant.schedule};
    if (std::ranges::find(kernels, kernel) == kernels.end()) kernels.push_back(kernel);
  }
  compile_all(session.service(), kernels);
  Field field;
  for (const BenchVariant& variant : variants) {
    Result<Entrant> entrant = admit(session, product, request, variant);
    if (entrant) {
      field.entrants.push_back(std::move(*entrant));
    } else {
      BenchRow row;
      row.request = request;
      row.variant = variant;
      row.failure = std::move(entrant.error());
      field.failures.push_back(std::move(row));
    }
  }
  return field;
}

Result<measure::Contender> contender_of(BenchSession& session, measure::Product& product,
                                        const Entrant& entrant) {
  return product.contender("kernel", session.launcher(entrant.kernel, entrant.row.variant.partitions));
}

// Times of the entrants, in turns with the bounds, into their rows.
Result<void> measure_with_bounds(BenchSession& session, measure::Product& product,
                                 std::span<Entrant> entrants) {
  std::vector<measure::Contender> contenders;
  contenders.reserve(entrants.size());
  for (const Entrant& entrant : entrants) {
    Result<measure::Contender> contender = contender_of(session, product, entrant);
    if (!contender) return failure(contender);
    contenders.push_back(std::move(*contender));
  }
  Result<measure::Comparison> compared =
      measure::compare(product, std::move(contenders), session.dense(), session.floor());
  if (!compared) return failure(compared);
  for (std::size_t i = 0; i < entrants.size(); ++i) {
    entrants[i].row.microseconds = compared->kernels[i].median;
    entrants[i].row.bounds = compared->bounds;
  }
  return {};
}

Result<void> measure_briefly(BenchSession& session, measure::Product& product, Entrant& entrant) {
  Result<measure::Contender> contender = contender_of(session, product, entrant);
  if (!contender) return failure(contender);
  Result<std::vector<measure::Statistics>> times =
      measure::measure(session.device(), std::span(&*contender, 1), kBrief);
  if (!times) return failure(times);
  entrant.row.microseconds = times->front().median;
  return {};
}

std::vector<BenchRow> rows_of(Field field) {
  std::vector<BenchRow> rows;
  for (Entrant& entrant : field.entrants) rows.push_back(std::move(entrant.row));
  std::ranges::move(field.failures, std::back_inserter(rows));
  return rows;
}

bool faster(const Entrant& left, const Entrant& right) {
  return left.row.microseconds < right.row.microseconds;
}

}  // namespace

void compile_all(Service& service, std::span<const KernelChoice> kernels) {
  parallel_for(kernels.size(), job_count(0), [&](std::size_t i) {
    [[maybe_unused]] const auto compiled = service.compile(kernels[i].first, kernels[i].second);
  });
}

Result<std::vector<BenchRow>> run_variants(BenchSession& session, measure::Product& product,
                                           const KernelRequest& request,
                                           const std::vector<BenchVariant>& variants) {
  Field field = admit_all(session, product, request, variants);
  if (!field.entrants.empty()) {
    if (Result<void> done = measure_with_bounds(session, product, field.entrants); !done)
      return failure(done);
  }
  return rows_of(std::move(field));
}

Result<std::vector<BenchRow>> run_sweep(BenchSession& session, measure::Product& product,
                                        const KernelRequest& request,
                                        const std::vector<BenchVariant>& variants) {
  Field field = admit_all(session, product, request, variants);
  std::vector<Entrant>& entrants = field.entrants;
  for (Entrant& entrant : entrants) {
    if (Result<void> done = measure_briefly(session, product, entrant); !done) return failure(done);
  }
  std::ranges::sort(entrants, faster);
  std::size_t finalists = std::min(kFinalists, entrants.size());
  const auto standard =
      std::ranges::find_if(entrants, [](const Entrant& entrant) { return entrant.row.is_default; });
  if (standard != entrants.end() && standard >= entrants.begin() + static_cast<std::ptrdiff_t>(finalists)) {
    std::rotate(entrants.begin() + static_cast<std::ptrdiff_t>(finalists), standard, standard + 1);
    ++finalists;
  }
  if (finalists > 0) {
    const std::span best = std::span(entrants).first(finalists);
    if (Result<void> done = measure_with_bounds(session, product, best); !done) return failure(done);
    std::ranges::sort(best, faster);
    for (Entrant& entrant : std::span(entrants).subspan(finalists)) entrant.row.bounds = best[0].row.bounds;
  }
  return rows_of(std::move(field));
}

Result<std::vector<BenchVariant>> sweep_variants(const KernelSpec& spec, std::string_view family,
                                                 const std::vector<int>& partitions) {
  Result<std::vector<Schedule>> candidates = schedules(spec);
  if (!candidates) return failure(candidates);
  std::vector<BenchVariant> variants;
  for (const Schedule& schedule : *candidates) {
    if (!family.empty() && core::family_of(schedule) != family) continue;
    for (const int count : partitions) variants.push_back({schedule, count});
  }
  if (variants.empty()) {
    return refuse(fmt::format("family: {} has no kernel for {}; leave it out", family, describe(spec)));
  }
  return variants;
}

}  // namespace lutsmith::cli
