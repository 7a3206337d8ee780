#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/options/spec_options.h"
#include "cli/output/output.h"
#include "cli/verbs/bench/report.h"
#include "cli/verbs/bench/runs.h"
#include "cli/verbs/bench/session.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

struct BenchOptions {
  SpecOptions spec;
  bool sweep = false;
  std::vector<int> partitions;
};

// Wrong values are told of before a missing GPU is.
Result<void> check_options(const BenchOptions& options) {
  for (const int partitions : options.partitions) {
    if (partitions < 0) {
      return refuse(
          fmt::format("partitions: {} is not allowed; allowed: 1 and more, or 0 for the library's "
                      "choice",
                      partitions));
    }
  }
  if (options.sweep && !options.spec.schedule.fields.empty()) {
    return refuse("sweep: tries every schedule, so of a schedule only its family can be given with it");
  }
  SpecText text = options.spec.text;
  if (text["target"] == "native") text["target"] = Target::all().front().name;  // any will do
  Result<KernelRequests> requests = expand(text, {});
  if (!requests) return failure(requests);
  return {};
}

Result<KernelRequests> requests_on(const Target& gpu, const BenchOptions& options) {
  SpecText text = options.spec.text;
  if (text["target"] == "native") text["target"] = gpu.name();
  Result<KernelRequests> requests = expand(text, options.sweep ? ScheduleOverride{} : options.spec.schedule);
  if (!requests) return requests;
  for (const KernelRequest& request : requests->kernels) {
    if (request.spec.target != gpu) {
      return refuse(fmt::format("target: bench measures on this machine's GPU, which is {} and not {}",
                                gpu.name(), request.spec.target.name()));
    }
  }
  return requests;
}

Result<std::vector<BenchRow>> run_request(BenchSession& session, measure::Product& product,
                                          const KernelRequest& request, const BenchOptions& options) {
  if (Result<void> ready = product.set_tokens(request.spec); !ready) return failure(ready);
  const std::vector<int> partitions = options.partitions.empty() ? std::vector{0} : options.partitions;
  if (options.sweep) {
    Result<std::vector<BenchVariant>> variants =
        sweep_variants(request.spec, options.spec.schedule.family, partitions);
    if (!variants) return failure(variants);
    return run_sweep(session, product, request, *variants);
  }
  std::vector<BenchVariant> variants;
  for (const int count : partitions) variants.push_back({request.schedule, count});
  return run_variants(session, product, request, variants);
}

// Rows of all requests in the order of the requests. Those with the same weights are measured one after
// another, so that weights are packed once.
Result<std::vector<std::vector<BenchRow>>> run_requests(BenchSession& session,
                                                        const std::vector<KernelRequest>& requests,
                                                        const BenchOptions& options) {
  std::vector<KernelChoice> kernels;
  for (const KernelRequest& request : requests) kernels.emplace_back(request.spec, request.schedule);
  if (!options.sweep) compile_all(session.service(), kernels);

  std::vector<std::vector<BenchRow>> rows(requests.size());
  std::vector<bool> done(requests.size(), false);
  for (std::size_t first = 0; first < requests.size(); ++first) {
    if (done[first]) continue;
    const WeightFormat& format = requests[first].spec.format;
    const int segment_rows = requests[first].spec.segment_rows;
    Result<measure::RandomWeights> weights = measure::make_random_weights(format, segment_rows);
    if (!weights) return failure(weights);
    Result<measure::Product> product = measure::Product::create(session.device(), *weights);
    if (!product) return failure(product);
    for (std::size_t i = first; i < requests.size(); ++i) {
      const KernelSpec& spec = requests[i].spec;
      if (done[i] || spec.format != format || spec.segment_rows != segment_rows) continue;
      print_to_stderr(fmt::format("measuring {}\n", describe(requests[i].spec)));
      Result<std::vector<BenchRow>> measured = run_request(session, *product, requests[i], options);
      if (!measured) return failure(measured);
      rows[i] = std::move(*measured);
      done[i] = true;
    }
  }
  return rows;
}

Result<ExitCode> run_bench(const BenchOptions& options, bool json) {
  if (Result<void> valid = check_options(options); !valid) return failure(valid);
  Result<BenchSession> session = BenchSession::open();
  if (!session) return failure(session);
  Result<KernelRequests> requests = requests_on(session->target(), options);
  if (!requests) return failure(requests);
  Result<std::vector<std::vector<BenchRow>>> measured = run_requests(*session, requests->kernels, options);
  if (!measured) return failure(measured);

  bool failed = false;
  std::vector<BenchRow> rows;
  for (std::vector<BenchRow>& of_request : *measured) {
    for (BenchRow& row : of_request) {
      failed = failed || row.failure;
      rows.push_back(std::move(row));
    }
  }
  if (json) {
    Json document = to_json(*session);
    document["rows"] = Json::array();
    for (const BenchRow& row : rows) document["rows"].push_back(to_json(row));
    print_json(document);
  } else {
    print_rows(*session, rows, options.sweep);
  }
  return failed ? ExitCode::work_failed : ExitCode::success;
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  const auto options = std::make_shared<BenchOptions>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "bench",
       .description = "Measure kernels on the GPU beside cuBLAS and a kernel that only reads the same bytes",
       .examples = "  lutsmith bench --bits 2,3,4 --m 1,8,16 --n 4096 --k 4096\n"
                   "  lutsmith bench --model llama3.1-8b --tp 2 --bits 4 --m 1 --json\n"
                   "  lutsmith bench --n 4096 --k 14336 --sweep --partitions 0,132,264\n"
                   "  lutsmith bench --n 28672 --k 4096 --gated none,silu\n"
                   "docs/benchmarking.md tells how the times are taken.",
       .work = [options, &context] { return run_bench(*options, context.json); }});
  add_spec_options(verb, options->spec);
  verb.add_flag("--sweep", options->sweep, "Measure every candidate schedule and sort them by time");
  verb.add_option("--partitions", options->partitions,
                  "Stream-K partitions to try, separated by commas; 0: the library's choice")
      ->delimiter(',')
      ->type_name("LIST");
}

}  // namespace lutsmith::cli
