// Every format, and every structure of a kernel: each emitted source is compiled and executed.

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "emulation.h"
#include "must.h"
#include "templates/embedded_templates.h"

namespace lutsmith::emulator_test {
namespace {

/// Two row panels, the second ragged; three column panels, the third ragged; groups that end early.
constexpr std::int64_t kRows = 40;
constexpr std::int64_t kColumns = 264;

/// All formats: bits x group x type x table.
std::vector<KernelSpec> formats(const char* target) {
  std::vector<KernelSpec> specs;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      for (const DataType dtype : {DataType::f16, DataType::bf16}) {
        for (const TableKind table : {TableKind::scalar, TableKind::pair}) {
          specs.push_back(
              {.format =
                   {.bits = bits, .group = group, .n = kRows, .k = kColumns, .dtype = dtype, .table = table},
               .m = 1,
               .target = must(Target::parse(target))});
        }
      }
    }
  }
  return specs;
}

/// The weight stream, rows and tokens of a tile.
using Structure = std::tuple<WeightPath, int, int>;

class EmulatedFormats : public testing::TestWithParam<Structure> {};

/// Whether a weight path runs a format; formats that differ in type and table alone make four turns. Of the
/// four, every path runs two, which have both types and both tables between them, and the next path the other
/// two.
bool belongs_to(WeightPath path, std::size_t turn) {
  const bool equal = turn % 4 == 0 || turn % 4 == 3;  // both of the first kind, or both of the second
  return equal == ((static_cast<std::size_t>(path) + turn / 4) % 2 == 0);
}

// No weight path's code depends on type or table, so that they need not be tried in all four pairs with each
// (EmulatedWeightPaths.KnowNeitherTypeNorTable). The three paths together run every format.
//
// What changes numbers but not the structure takes turns: the formats go through its values at strides that
// share no factor with those in which the formats themselves change.
TEST_P(EmulatedFormats, AreRightForEveryNumberOfPartitionsInEveryOrder) {
  const auto [path, tile_rows, tile_tokens] = GetParam();
  constexpr int kWarps[] = {1, 2, 3, 1, 2, 4, 2};
  const std::vector<int> tokens = tile_tokens == 1    ? std::vector<int>{1, 2, 1}
                                  : tile_tokens == 8  ? std::vector<int>{3, 8, 9}
                                  : tile_tokens == 16 ? std::vector<int>{11, 16, 19}
                                                      : std::vector<int>{17, 32, 35};
  // Another beginning for each structure, so that together they run every format wherever not all are run.
  const std::size_t structure = static_cast<std::size_t>(path) * 10 +
                                static_cast<std::size_t>(tile_rows / 32) * 5 +
                                static_cast<std::size_t>(tile_tokens / 8);
  std::size_t turn = 0;
  for (const KernelSpec& spec : formats(path == WeightPath::async_copy ? "sm_80" : "sm_90a")) {
    const FewTokensSchedule schedule{
        .tile_rows = tile_rows,
        .tile_tokens = tile_tokens,
        .warps = kWarps[turn % std::size(kWarps)],
        .weights = path,
        .stages = turn % 11 % 2 == 0 ? 2 : 3,
        .dependent_launch = path != WeightPath::async_copy && turn % 13 % 2 == 0};
    if (belongs_to(path, turn) && has_turn(structure + turn)) {
      expect_right(spec, schedule, tokens[turn / 2 % tokens.size()]);
    }
    ++turn;
  }
}

std::string name_of(const testing::TestParamInfo<Structure>& info) {
  const auto [path, tile_rows, tile_tokens] = info.param;
  return std::string(to_string(path)) + "_rows" + std::to_string(tile_rows) + "_tokens" +
         std::to_string(tile_tokens);
}

INSTANTIATE_TEST_SUITE_P(Structures, EmulatedFormats,
                         testing::Combine(testing::Values(WeightPath::registers, WeightPath::async_copy,
                                                          WeightPath::bulk_copy),
                                          testing::Values(16, 32), testing::Values(1, 8, 16, 32)),
                         name_of);

TEST(EmulatedWeightPaths, KnowNeitherTypeNorTable) {
  int paths = 0;
  for (const EmbeddedFile& file : embedded_templates()) {
    if (!file.name.starts_with("templates/weights/")) continue;
    EXPECT_FALSE(file.text.contains("kElement") || file.text.contains("kPairTable")) << file.name;
    ++paths;
  }
  EXPECT_GE(paths, 3);
}

// What quantize() makes of weights whose largest is positive, under a table that reaches further down.
TEST(EmulatedIntegers, WithNegativeScalesAreRight) {
  for (const int group : {64, kPerChannel}) {
    for (const int bits : {1, 2, 3, 4}) {
      SCOPED_TRACE("bits " + std::to_string(bits) + ", group " + group_name(group));
      const KernelSpec spec{.format = {.bits = bits, .group = group, .n = kRows, .k = kColumns},
                            .m = 1,
                            .target = must(Target::parse("sm_80"))};
      const Problem problem = make_integer_problem(spec, 3);
      const Source source = must(render(spec, must(schedules(spec)).front()));
      const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
      EXPECT_LE(error_of(problem, must(emulate(kernel, source, problem))), tolerance(spec.format.dtype));
    }
  }
}

}  // namespace
}  // namespace lutsmith::emulator_test
