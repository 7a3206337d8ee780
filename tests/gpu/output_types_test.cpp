// Products in another type than their activations': the same sums, rounded to it once.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/output_values.h"
#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

class OutputTypesOnGpu : public GpuTest {};

/// f16 and bf16, with little and with much made of the sums, of which nothing is rounded.
std::vector<KernelSpec> specs_of(std::int64_t n, std::int64_t k, std::int64_t m) {
  std::vector<KernelSpec> specs;
  for (const DataType dtype : {DataType::f16, DataType::bf16}) {
    const KernelSpec plain = spec_of(4, kPerChannel, n, k, m, dtype);
    specs.insert(specs.end(), 3, plain);
    specs.end()[-2].residual = specs.end()[-2].bias = true;
    specs.end()[-1].gated = Gate::silu;
  }
  return specs;
}

TEST_F(OutputTypesOnGpu, SumsAreRoundedOnceToEachType) {
  for (const std::int64_t m : {1, 8, 16, 32, 64, 128, 256}) {
    for (KernelSpec spec : specs_of(1008, 1032, m)) {
      Problem problem = make_problem(spec, m > 1 ? m - 1 : 1);
      share_residual(problem);
      const auto run = [&](OutputType type, const LaunchOptions& options) {
        spec.output = problem.output = type;
        Multiplication multiplication(problem, options);
        multiplication.run(get_kernel({spec, std::nullopt}));
        return multiplication.result_bytes();
      };
      const bool residual = !problem.residual.empty();
      const std::vector<std::byte> sums = run(OutputType::f32, {.output_padding = 3, .in_place = residual});
      EXPECT_LE(error_of(problem, sums), tolerance(spec)) << describe(spec);
      const std::vector<float> values = core::values_of(sums, OutputType::f32);
      for (const OutputType type : {OutputType::f16, OutputType::bf16}) {
        EXPECT_EQ(run(type, {}), core::bytes_of(values, type)) << describe(spec);
      }
    }
  }
}

TEST_F(OutputTypesOnGpu, EveryScheduleWritesFp32) {
  for (const std::int64_t m : {1, 16, 32, 256}) {
    for (KernelSpec spec : specs_of(400, 648, m)) {
      if (spec.format.dtype == DataType::bf16) continue;
      spec.output = OutputType::f32;
      std::vector<KernelRequest> requests;
      for (const Schedule& schedule : must(schedules(spec))) requests.push_back({spec, schedule});
      precompile(requests);
      for (const KernelRequest& request : requests) {
        expect_right(request, m, {.output_padding = 1, .in_place = spec.residual});
        expect_right(request, m, {.partitions = 7});
      }
    }
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
