// Which schedules formats with offsets have.

#include <gtest/gtest.h>

#include <cstdint>
#include <variant>

#include "codegen/families.h"
#include "lutsmith/codegen.h"

namespace lutsmith {
namespace {

TEST(OffsetsTest, EveryFormatHasSchedulesForEveryNumberOfTokensOnEveryTarget) {
  for (const TargetTraits& traits : Target::all()) {
    for (const std::int64_t m : kTokenBuckets) {
      for (const int bits : {1, 2, 3, 4}) {
        for (const int group : {32, 64, 128, 256, kPerChannel}) {
          for (const bool batch_invariant : {false, true}) {
            const KernelSpec spec{
                .format = {.bits = bits, .group = group, .n = 4096, .k = 4096, .offsets = true},
                .m = m,
                .target = *Target::parse(traits.name),
                .batch_invariant = batch_invariant};
            const auto candidates = schedules(spec);
            ASSERT_TRUE(candidates.has_value()) << candidates.error().message;
            EXPECT_FALSE(candidates->empty()) << describe(spec);
            for (const Schedule& schedule : *candidates) {
              ASSERT_TRUE(validate(spec, schedule).has_value())
                  << describe(spec) << ", " << describe(schedule);
            }
          }
        }
      }
    }
  }
}

TEST(OffsetsTest, ManyTokensHaveTheFamiliesForManyTokens) {
  for (const char* target : {"sm_80", "sm_90a"}) {
    for (const int group : {32, 128, kPerChannel}) {
      const KernelSpec spec{.format = {.bits = 4, .group = group, .n = 4096, .k = 4096, .offsets = true},
                            .m = 64,
                            .target = *Target::parse(target)};
      EXPECT_FALSE(std::holds_alternative<FewTokensSchedule>(schedules(spec)->front())) << describe(spec);
    }
  }
}

TEST(OffsetsTest, TakeTimeThatTheCostModelSees) {
  KernelSpec spec{
      .format = {.bits = 4, .group = 128, .n = 28672, .k = 4096}, .m = 8, .target = *Target::parse("sm_80")};
  const Schedule schedule = FewTokensSchedule{.tile_rows = 32, .tile_tokens = 8, .warps = 8};
  const GpuModel gpu = GpuModel::of(spec.target);
  const double without = estimated_microseconds(spec, schedule, gpu, 0);
  spec.format.offsets = true;
  EXPECT_GT(estimated_microseconds(spec, schedule, gpu, 0), without);
}

}  // namespace
}  // namespace lutsmith
