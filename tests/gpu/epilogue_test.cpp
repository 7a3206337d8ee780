// What kernels make of their sums before they are rounded: right in every family, and in its turn where the
// launch ahead writes the residual.

#include <cstdint>
#include <vector>

#include "epilogues.h"
#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

using test::with_epilogues;

class EpilogueOnGpu : public GpuTest {};

std::vector<KernelRequest> requests_for(std::int64_t n, std::int64_t k) {
  std::vector<KernelRequest> requests;
  for (const std::int64_t m : {1, 8, 16, 32, 64, 128, 256, 512}) {
    for (const int group : {128, kPerChannel}) {
      for (const DataType dtype : {DataType::f16, DataType::bf16}) {
        for (KernelSpec spec : with_epilogues(spec_of(4, group, n, k, m, dtype))) {
          // The float64 product of many tokens takes its time, and the formats differ in nothing there.
          if (m > 64 && (group != 128 || dtype != DataType::f16)) continue;
          requests.push_back({spec, std::nullopt});
          spec.batch_invariant = true;
          if (m <= 256) requests.push_back({spec, std::nullopt});
        }
      }
    }
  }
  return requests;
}

TEST_F(EpilogueOnGpu, TheChosenKernelOfEveryNumberOfTokensIsRight) {
  const std::vector<KernelRequest> requests = requests_for(1024, 1032);
  precompile(requests);
  for (const KernelRequest& request : requests) {
    expect_right(request, request.spec.m);
    expect_right(request, request.spec.m > 1 ? request.spec.m - 1 : 3,
                 {.output_padding = 8, .in_place = true});
  }
}

TEST_F(EpilogueOnGpu, RowsThatFillNoTileAndPlacesThatAllowNoVectorsAreRight) {
  const std::vector<KernelRequest> requests = requests_for(208, 392);
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const std::int64_t m : {1, 5, 43}) {
      expect_right(request, m, {.partitions = 3, .output_padding = 3});
      expect_right(request, m, {.partitions = 11, .output_padding = 5, .in_place = true});
    }
  }
}

TEST_F(EpilogueOnGpu, EveryScheduleForFewAndManyTokensIsRight) {
  std::vector<KernelRequest> requests;
  for (const std::int64_t m : {1, 16, 32, 256}) {
    for (const KernelSpec& spec : with_epilogues(spec_of(4, 128, 400, 648, m))) {
      for (const Schedule& schedule : must(schedules(spec))) requests.push_back({spec, schedule});
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) {
    expect_right(request, request.spec.m, {.in_place = true});
    expect_right(request, request.spec.m, {.partitions = 7});
  }
}

TEST_F(EpilogueOnGpu, ASumIsRoundedOnceWithItsResidual) {
  for (const std::int64_t m : {1, 8, 32, 256}) {
    KernelSpec spec = spec_of(4, kPerChannel, 512, 512, m, DataType::bf16);
    spec.residual = true;
    Problem problem = make_problem(spec, m);
    oppose_sums(problem);
    expect_right(KernelRequest{spec, std::nullopt}, problem);
  }
}

/// Launches that each add to what the one ahead has left in Y.
class ResidualChain {
 public:
  static constexpr int kLinks = 8;

  explicit ResidualChain(std::int64_t m)
      : spec_(residual_spec(m)),
        kernel_(get_kernel({spec_, std::nullopt})),
        problem_(make_problem(spec_, m)),
        multiplication_(problem_, {.in_place = true}),
        workspace_(must(machine()->service.create_workspace())),
        stream_(must(cuda::Stream::create(*machine()->driver))) {}

  std::vector<std::uint16_t> run(bool wait_after_each) {
    multiplication_.poison();
    for (int i = 0; i < kLinks; ++i) {
      must(enqueue());
      if (wait_after_each) must(stream_.synchronize());
    }
    return multiplication_.result();
  }

  std::vector<std::uint16_t> replay() {
    multiplication_.poison();
    const cuda::Graph graph = must(stream_.capture([&]() -> Result<void> {
      for (int i = 0; i < kLinks; ++i) must(enqueue());
      return {};
    }));
    must(graph.launch(stream_.get()));
    must(stream_.synchronize());
    return multiplication_.result();
  }

 private:
  static KernelSpec residual_spec(std::int64_t m) {
    KernelSpec spec = spec_of(4, 128, 1024, 1024, m);
    spec.residual = true;
    return spec;
  }

  Result<void> enqueue() { return kernel_.launch(multiplication_.arguments(), workspace_, stream_.get()); }

  KernelSpec spec_;
  Kernel kernel_;
  Problem problem_;
  Multiplication multiplication_;
  Workspace workspace_;
  cuda::Stream stream_;
};

TEST_F(EpilogueOnGpu, AResidualIsReadAfterTheLaunchAheadHasWrittenIt) {
  for (const std::int64_t m : {1, 16, 32, 256}) {
    ResidualChain chain(m);
    const std::vector<std::uint16_t> expected = chain.run(true);
    for (int repeat = 0; repeat < 10; ++repeat) EXPECT_EQ(chain.run(false), expected) << m << " tokens";
    EXPECT_EQ(chain.replay(), expected) << m << " tokens, in a graph";
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
