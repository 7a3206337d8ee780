// Which schedules formats with a table for each row have.

#include <gtest/gtest.h>

#include <cstdint>
#include <variant>

#include "codegen/families.h"
#include "lutsmith/codegen.h"

namespace lutsmith {
namespace {

KernelSpec spec_of(const char* target, int bits, std::int64_t m) {
  return {.format = {.bits = bits, .group = 128, .n = 4096, .k = 4096, .table = TableKind::row},
          .m = m,
          .target = *Target::parse(target)};
}

TEST(RowTablesTest, EveryNumberOfTokensHasSchedulesThatNeedNoTableInSharedMemory) {
  for (const char* target : {"sm_80", "sm_90a", "sm_120a"}) {
    for (const std::int64_t m : kTokenBuckets) {
      for (const int bits : {1, 2, 3, 4}) {
        for (const bool batch_invariant : {false, true}) {
          KernelSpec spec = spec_of(target, bits, m);
          spec.batch_invariant = batch_invariant;
          KernelSpec one_table = spec;
          one_table.format.table = TableKind::scalar;
          const auto candidates = schedules(spec);
          ASSERT_TRUE(candidates.has_value()) << candidates.error().message;
          ASSERT_FALSE(candidates->empty()) << describe(spec);
          for (const Schedule& schedule : *candidates) {
            ASSERT_TRUE(validate(spec, schedule).has_value()) << describe(spec) << ", " << describe(schedule);
          }
          const Schedule& first = candidates->front();
          EXPECT_LT(launch_recipe(spec, first).shared_bytes, launch_recipe(one_table, first).shared_bytes)
              << describe(spec);
        }
      }
    }
  }
}

TEST(RowTablesTest, TakeRegistersAndTimeThatTheEstimatesSee) {
  const FewTokensSchedule few{.tile_rows = 32, .tile_tokens = 8, .warps = 8};
  const MultistageSchedule multistage;
  const ManyTokensSchedule many;
  for (const Schedule& schedule : {Schedule(few), Schedule(multistage), Schedule(many)}) {
    const KernelSpec spec = spec_of("sm_90a", 4, 64);
    KernelSpec one_table = spec;
    one_table.format.table = TableKind::scalar;
    const GpuModel gpu = GpuModel::of(spec.target);
    // With X in stages they spare about as much of shared memory's time.
    if (!std::holds_alternative<MultistageSchedule>(schedule)) {
      EXPECT_GT(estimated_microseconds(spec, schedule, gpu, 0),
                1.1 * estimated_microseconds(one_table, schedule, gpu, 0))
          << describe(schedule);
    }
    const auto registers = [&](const KernelSpec& of) {
      return visit_family(
          schedule, [&]<class Family>(const auto& own) { return Family::estimated_registers(of, own); });
    };
    const int records = std::holds_alternative<ManyTokensSchedule>(schedule) ? 1 : 2;
    EXPECT_EQ(registers(spec), registers(one_table) + 16 * records) << describe(schedule);
  }
}

}  // namespace
}  // namespace lutsmith
