// Mistakes that somebody could make in the look-up in tables of rows, and in when those are loaded: the
// emulator has to catch every one of them, in every family that has it in code of its own.

#include <gtest/gtest.h>

#include <cstdint>
#include <string_view>

#include "mutation.h"

namespace lutsmith::emulator_test {
namespace {

/// clang, which compiles kernels where sanitizers watch, has no pattern for integers that is no number.
constexpr std::string_view kNeverSetOrWrong =
    "uses a register that nothing was written to|the numbers are wrong";

enum class Family { few_tokens, multistage, many_tokens };

/// One block has all tiles of rows: those of the matrix fill a part of the last one.
struct RowTablesExample {
  Family family = Family::few_tokens;
  int bits = 4;
  bool ahead = false;  ///< each tile has a block, which looks its first unit up ahead of the wait

  friend bool operator==(const RowTablesExample&, const RowTablesExample&) = default;
};

KernelSpec spec_of(const RowTablesExample& example) {
  const std::int64_t n = example.family == Family::few_tokens ? 72 : 136;
  return {.format = {.bits = example.bits, .group = 128, .n = n, .k = 264, .table = TableKind::row},
          .m = 1,
          .target = must(Target::parse("sm_90a"))};
}

Schedule schedule_of(const RowTablesExample& example) {
  switch (example.family) {
    case Family::few_tokens:
      return FewTokensSchedule{.tile_rows = 32,
                               .tile_tokens = example.ahead ? 1 : 8,
                               .warps = 2,
                               .dependent_launch = example.ahead};
    case Family::multistage:
      return MultistageSchedule{.tile_rows = 128,
                                .tile_tokens = 32,
                                .warp_rows = 32,
                                .k_groups = 1,
                                .stage_columns = 64,
                                .activation_stages = 2};
    case Family::many_tokens:
      break;
  }
  return ManyTokensSchedule{.tile_rows = 128,
                            .tile_tokens = 32,
                            .k_groups = 1,
                            .commit_steps = 4,
                            .activation_stages = 2,
                            .weight_stages = 1};
}

Problem problem_of(const RowTablesExample& example) {
  return make_problem(spec_of(example), example.ahead ? 1 : 3);
}

EmulationOptions options_of(const RowTablesExample& example) { return {.partitions = example.ahead ? 3 : 1}; }

constexpr RowTablesExample kTwoBits{.bits = 2};
constexpr RowTablesExample kThreeBits{.bits = 3};
constexpr RowTablesExample kOneBit{.bits = 1};
constexpr RowTablesExample kAhead{.ahead = true};
constexpr RowTablesExample kWarps{.family = Family::multistage};
constexpr RowTablesExample kGroups{.family = Family::many_tokens};

constexpr std::string_view kLoadFirst =
    "if constexpr (Config::kRowTables) look_up.load_tables(start.row_tile, lane);";
constexpr std::string_view kLoadNext = "if constexpr (Config::kRowTables) load_next_tables(steps);";

constexpr Mutation<RowTablesExample> kMutations[] = {
    // Look-ups.
    {"SignsOfBytesInsteadOfBytes", "kBits == 4 ? nibbles & 0x77777777u : nibbles", "nibbles", kWrong},
    {"CodesOfTheOtherRow", "selectors, 0x2020)", "selectors, 0x3131)", kWrong},
    {"CodesOfOneRegisterTwice", "selectors, 0x3131)", "selectors, 0x1111)", kWrong},
    {"MaskOfOtherCodes", "lower_nibbles, 0xae8c)", "lower_nibbles, 0xea8c)", kWrong},
    {"MaskOfTheOtherRow", "lower_nibbles, 0xbf9d)", "lower_nibbles, 0xae8c)", kWrong},
    {"MaskOfBytesInsteadOfSigns", "lower_nibbles, 0xbf9d)", "lower_nibbles, 0x3715)", kWrong},
    {"UpperTableForLowerCodes", "& upper) | (lower_eight & ~upper)", "& ~upper) | (lower_eight & upper)",
     kWrong},
    {"LowBytesOfHighCodes", "permute_bytes(plane[2], plane[3], selectors)",
     "permute_bytes(plane[3], plane[2], selectors)", kWrong},
    {"HighBytesInTheLowHalf", "low, high, 0x5140)", "low, high, 0x1504)", kWrong},
    {"SecondValuesOfTheFirst", "low, high, 0x7362)", "low, high, 0x5140)", kWrong},
    {"TableOfTheRowEightBehind", "a[1], a[3], tables_[record][1]", "a[1], a[3], tables_[record][0]", kWrong},
    {"TablesOfTheFirstRecord", "a[0], a[2], tables_[record][0]", "a[0], a[2], tables_[0][0]", kWrong},
    {"FourEntriesOfEight", "plane[kPlaneWords > 1 ? 1 : 0], selectors)", "plane[0], selectors)", kWrong,
     kThreeBits},
    {"HighBytesAreTheLowOnes", "table.low[0] = words.x, table.high[0] = words.y;",
     "table.low[0] = words.x, table.high[0] = words.x;", kWrong, kTwoBits},
    {"HighBytesNotMovedDown", "table.high[0] = word >> 16;", "table.high[0] = word;", kWrong, kOneBit},

    // Where tables are.
    {"TableOfTheNextRow", "kLastRow) + lane / 4;", "kLastRow) + (lane / 4 + 1) % 8;", kWrong},
    {"TablesOfTheLanesRow", "kLastRow) + lane / 4;", "kLastRow) + lane % 8;", kWrong},
    {"TablesOfNeighbours", "layout::kRecordRows + half * 8) * kLayout",
     "layout::kRecordRows + half) * kLayout", kWrong},
    {"TablesBehindTheMatrix", "min(row_tile * Config::kTileRows, kLastRow)", "row_tile * Config::kTileRows",
     kPastWeights, kWarps},
    {"TablesOfTilesOfTheBlock", "WithTables<Config, LookUp<OneRecord<Config>>>",
     "WithTables<Config, LookUp<Config>>", kWrong, kGroups},

    // When they are loaded.
    {"FewTablesNeverLoaded", kLoadFirst, "", kNeverSet},
    {"FewTablesOfTheFirstTileForAll", kLoadNext, "", kWrong},
    {"FewTablesOfTheSameTileAgain", "next.next_tile();\n    look_up_.load_tables", "look_up_.load_tables",
     kWrong},
    {"FewTablesOfTheNextTileTooEarly", "look_up_.begin_segment(at_.row_tile, lane_);\n      const int steps",
     "load_next_tables(0);\n      const int steps", kWrong},
    {"FewTablesBehindTheLookUpsAheadOfTheWait", kLoadFirst, "", kNeverSetOrWrong, kAhead,
     "if (first) block_barrier();  // the engine is filled",
     "if (first) look_up_.load_tables(at_.row_tile, lane_), block_barrier();"},
    {"WarpsTablesOfTheFirstTileForAll", "load_tables(look_up_, behind);", "", kWrong, kWarps},
    {"WarpsTablesOfTheSameTileAgain", "behind.next_segment();\n        load_tables(look_up_",
     "load_tables(look_up_", kWrong, kWarps},
    {"WarpsTablesOfTheFirstShare", "look_up.load_tables(row_share(at)",
     "look_up.load_tables(at.place().row_tile", kWrong, kWarps},
    {"GroupsTablesOfTheFirstTileForAll", "load_tables(behind);", "", kWrong, kGroups},
    {"GroupsTablesOfTheSameTileAgain", "behind.next_segment();\n        load_tables(behind)",
     "load_tables(behind)", kWrong, kGroups},
    {"GroupsTablesOfTheFirstRecord", "kRecords + record_, lane_)", "kRecords, lane_)", kWrong, kGroups},
};

class RowTablesMutations : public testing::TestWithParam<Mutation<RowTablesExample>> {};

TEST_P(RowTablesMutations, IsCaught) {
  if (has_turn(GetParam())) expect_caught(GetParam());
}

INSTANTIATE_TEST_SUITE_P(DeviceCode, RowTablesMutations, testing::ValuesIn(kMutations),
                         name_of<RowTablesExample>);

TEST(UnchangedRowTables, AreRightWhereMistakesAreCaught) { expect_right_unchanged(kMutations); }

}  // namespace
}  // namespace lutsmith::emulator_test
