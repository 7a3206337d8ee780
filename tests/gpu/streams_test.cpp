// Streams, graphs, dependent launches and strides.

#include <array>

#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

using StreamsOnGpu = GpuTest;

bool has_dependent_launch() { return machine()->target.traits().dependent_launch; }

TEST_F(StreamsOnGpu, TwoStreamsWithTwoWorkspacesDoNotDisturbEachOther) {
  const cuda::Driver& driver = *machine()->driver;
  const KernelRequest request{spec_of(4, 128, 2080, 2056), FewTokensSchedule{.warps = 4}};
  const Kernel kernel = get_kernel(request);
  struct Lane {
    Problem problem;
    Multiplication multiplication;
    Workspace workspace;
    cuda::Stream stream;
  };
  std::vector<Lane> lanes;
  for (const std::uint64_t seed : {1U, 2U}) {
    Problem problem = make_problem(request.spec, 8, {.seed = seed});
    Multiplication multiplication(problem, {.partitions = 97});
    lanes.push_back({std::move(problem), std::move(multiplication),
                     must(machine()->service.create_workspace()), must(cuda::Stream::create(driver))});
  }
  for (int repeat = 0; repeat < 50; ++repeat) {
    for (Lane& lane : lanes) {
      must(kernel.launch(lane.multiplication.arguments(), lane.workspace, lane.stream.get()));
    }
  }
  for (const Lane& lane : lanes) {
    EXPECT_LE(error_of(lane.problem, lane.multiplication.result()), tolerance(DataType::f16));
  }
}

void expect_replays_alike(const KernelRequest& request) {
  SCOPED_TRACE(describe(request));
  const cuda::Stream stream = must(cuda::Stream::create(*machine()->driver));
  Workspace workspace = must(machine()->service.create_workspace());
  const Kernel kernel = get_kernel(request);
  const Problem problem = make_problem(request.spec, 8);
  Multiplication multiplication(problem, {.partitions = 13});
  const cuda::Graph graph = must(stream.capture([&]() -> Result<void> {
    for (int i = 0; i < 4; ++i) {
      if (auto launched = kernel.launch(multiplication.arguments(), workspace, stream.get()); !launched) {
        return launched;
      }
    }
    return {};
  }));
  EXPECT_EQ(graph.nodes(), 4U);
  std::vector<std::uint16_t> first;
  for (int replay = 0; replay < 5; ++replay) {
    multiplication.poison();
    must(graph.launch(stream.get()));
    const std::vector<std::uint16_t> result = multiplication.result();
    if (replay == 0) first = result;
    EXPECT_EQ(result, first);
  }
  EXPECT_LE(error_of(problem, first), tolerance(request.spec.format.dtype));
}

TEST_F(StreamsOnGpu, CapturedGraphReplaysBitForBit) {
  for (const bool dependent : {false, true}) {
    if (dependent && !has_dependent_launch()) continue;
    expect_replays_alike(
        {spec_of(4, 128, 160, 2056), FewTokensSchedule{.warps = 4, .dependent_launch = dependent}});
  }
}

TEST_F(StreamsOnGpu, LaunchesThatDependOnEachOtherSeeEachOthersOutput) {
  // Y of one launch is X of the next, eight times: a kernel that reads X before it may gets poison.
  const cuda::Driver& driver = *machine()->driver;
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    for (const int tile_rows : {16, 32}) {
      const KernelRequest request{spec_of(4, 128, 1024, 1024),
                                  FewTokensSchedule{.tile_rows = tile_rows,
                                                    .warps = 4,
                                                    .weights = path,
                                                    .stages = 2,
                                                    .dependent_launch = has_dependent_launch()}};
      if (!validate(request.spec, *request.schedule)) continue;
      SCOPED_TRACE(describe(request));
      const Kernel kernel = get_kernel(request);
      const Problem problem = make_problem(request.spec, 4);
      Workspace workspace = must(machine()->service.create_workspace());
      const cuda::Stream stream = must(cuda::Stream::create(driver));
      const auto chain = [&](bool wait_after_each) {
        std::vector<Multiplication> links;
        links.reserve(8);
        for (int i = 0; i < 8; ++i) {
          links.emplace_back(problem, LaunchOptions{.partitions = 37});
          if (i > 0)
            links[static_cast<std::size_t>(i)].arguments().activations =
                links[static_cast<std::size_t>(i - 1)].arguments().output;
        }
        for (const Multiplication& link : links) {
          must(kernel.launch(link.arguments(), workspace, stream.get()));
          if (wait_after_each) must(stream.synchronize());
        }
        return links.back().result();
      };
      const std::vector<std::uint16_t> expected = chain(true);
      for (int repeat = 0; repeat < 10; ++repeat) EXPECT_EQ(chain(false), expected);
    }
  }
}

TEST_F(StreamsOnGpu, OutputThatIsOverwrittenInTurnHoldsTheLastLaunch) {
  // Back to back into one Y: a dependent launch that writes before it may loses against the one before.
  if (!has_dependent_launch()) GTEST_SKIP() << "this GPU has no dependent launch";
  const KernelRequest request{spec_of(4, 128, 512, 512),
                              FewTokensSchedule{.warps = 2, .dependent_launch = true}};
  const Kernel kernel = get_kernel(request);
  const cuda::Stream stream = must(cuda::Stream::create(*machine()->driver));
  Workspace workspace = must(machine()->service.create_workspace());
  const Problem slow = make_problem(request.spec, 64, {.seed = 1});
  const Problem quick = make_problem(request.spec, 1, {.seed = 2});
  const Multiplication first(slow);
  Multiplication last(quick);
  for (int repeat = 0; repeat < 20; ++repeat) {
    MatmulArguments into_last = first.arguments();
    into_last.m = 1;
    into_last.output = last.arguments().output;
    last.poison();
    must(kernel.launch(first.arguments(), workspace, stream.get()));
    must(kernel.launch(into_last, workspace, stream.get()));
    must(kernel.launch(last.arguments(), workspace, stream.get()));
    EXPECT_LE(error_of(quick, last.result()), tolerance(DataType::f16));
  }
}

TEST_F(StreamsOnGpu, StridedRowsAreReadAndWrittenWithoutTouchingThePadding) {
  std::vector<KernelRequest> requests;
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    for (const int tile_tokens : {1, 8, 16}) {
      const KernelSpec spec = spec_of(4, 128, 83, 392);
      const FewTokensSchedule schedule{.tile_tokens = tile_tokens, .warps = 2, .weights = path, .stages = 2};
      if (validate(spec, schedule)) requests.push_back({spec, schedule});
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const std::int64_t m : {1, 5, 19}) {
      for (const std::int64_t output_padding : {0, 1, 64}) {
        expect_right(request, m, {.activation_padding = 72, .output_padding = output_padding});
      }
      expect_right(request, m, {.partitions = 3, .activation_padding = 8, .output_padding = 5});
    }
  }
}

TEST_F(StreamsOnGpu, DefaultStreamIsAllowed) {
  const KernelRequest request{spec_of(4, 128, 64, 256), std::nullopt};
  const Problem problem = make_problem(request.spec, 1);
  Multiplication multiplication(problem);
  Workspace workspace = must(machine()->service.create_workspace());
  must(get_kernel(request).launch(multiplication.arguments(), workspace, nullptr));
  EXPECT_LE(error_of(problem, multiplication.result()), tolerance(DataType::f16));
}

}  // namespace
}  // namespace lutsmith::gpu_test
