#pragma once

#include <span>
#include <utility>
#include <vector>

#include "cli/verbs/bench/report.h"
#include "cli/verbs/bench/session.h"

namespace lutsmith::cli {

/// A schedule (nothing: the model's first choice) of a spec.
using KernelChoice = std::pair<KernelSpec, std::optional<Schedule>>;

/// Compiles on all cores, so that `Service::get` finds every kernel ready. Failures are met again there.
void compile_all(Service& service, std::span<const KernelChoice> kernels);

/// Measures one request under each variant, with what bounds it, in turns. One row per variant; a variant
/// that cannot be compiled or gives a wrong result becomes a row with an error. An error here means that
/// nothing could be measured at all.
Result<std::vector<BenchRow>> run_variants(BenchSession& session, measure::Product& product,
                                           const KernelRequest& request,
                                           const std::vector<BenchVariant>& variants);

/// Measures many variants: all of them briefly, then the fastest few and the default once more in turns
/// with the bounds. Rows are sorted: first those measured twice, by time, then the others, then failures.
Result<std::vector<BenchRow>> run_sweep(BenchSession& session, measure::Product& product,
                                        const KernelRequest& request,
                                        const std::vector<BenchVariant>& variants);

/// All candidates of the cost model, or those of one family, each with each number of partitions.
Result<std::vector<BenchVariant>> sweep_variants(const KernelSpec& spec, std::string_view family,
                                                 const std::vector<int>& partitions);

}  // namespace lutsmith::cli
