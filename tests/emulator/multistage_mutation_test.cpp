// Mistakes that somebody could make in the kernels for many tokens on any target, each made in an emitted
// source: the emulator has to catch every one of them, and in the way that is stated here. docs/emulator.md
// says which mistakes it cannot catch. The walk over tiles and Stream-K are broken in the tests of the other
// families.

#include <gtest/gtest.h>

#include <string_view>

#include "multistage_example.h"

namespace lutsmith::emulator_test {
namespace {

constexpr std::string_view kMixedBarriers =
    "is at named barrier .*, where thread .* met others at line .*, with nothing that orders the two";
constexpr std::string_view kNamedBarrierMissing = "deadlock: .*\n(.*\n)*.*waiting for a named barrier";

// Two groups along K, which take five units in turn.
constexpr MultistageExample kTwoGroups{.k = 584, .k_groups = 2};
// One block has two row tiles, the second of 8 rows.
constexpr MultistageExample kTwoTiles{.n = 136};
constexpr MultistageExample kTwoTilesOfTwoGroups{.n = 136, .k_groups = 2};
// Three tiles of five units in two partitions: part of a tile, then a whole one.
constexpr MultistageExample kCutOfTwoGroups{.n = 264, .k = 584, .k_groups = 2, .partitions = 2};
constexpr MultistageExample kTwoTokenTiles{.k = 128, .m = 35};
constexpr MultistageExample kTwoTokenTilesOfLargeStages{.k = 128, .stage_columns = 128, .m = 35};
constexpr MultistageExample kLargeStages{.stage_columns = 128};
constexpr MultistageExample kThreeStages{.activation_stages = 3};
constexpr MultistageExample kRing{.k = 584, .weights = WeightPath::bulk_copy};
constexpr MultistageExample kFiveUnits{.k = 584};
constexpr MultistageExample kDependent{.k = 128, .dependent_launch = true};
constexpr MultistageExample kSmallGroups{.group = 64, .k = 128};
constexpr MultistageExample kScaledSums{.group = 64, .k = 128, .scale_sums = true};
constexpr MultistageExample kOffsets{.k = 128, .offsets = true};
constexpr MultistageExample kOffsetsOfSmallGroups{.group = 64, .k = 128, .offsets = true};
constexpr MultistageExample kOffsetsOfChannels{.group = kPerChannel, .k = 128, .offsets = true};
constexpr MultistageExample kPlane{.group = 256, .n = 64, .k = 584};
constexpr MultistageExample kOneUnit{.k = 128};
constexpr MultistageExample kFewRows{.n = 40, .k = 128};
constexpr MultistageExample kRaggedPieces{.n = 36, .k = 128, .m = 3, .output_padding = 4};
constexpr MultistageExample kUnalignedRows{.n = 36, .k = 128, .m = 3};
constexpr MultistageExample kChannel{.group = kPerChannel, .k = 128};
constexpr MultistageExample kFewRowsOfChannels{.group = kPerChannel, .n = 40, .k = 128};
// Two tiles of five units in three partitions.
constexpr MultistageExample kCut{.n = 136, .k = 584, .partitions = 3};
constexpr MultistageExample kPartsInTurns{.n = 136, .k = 584, .tile_tokens = 64, .m = 40, .partitions = 3};
// One tile of three units in three parts, whose order shows.
constexpr MultistageExample kThreeParts{.k = 384, .partitions = 3, .cancelling = true};

// Pieces that several mutations change.
constexpr std::string_view kBarrierOfGroup = "named_barrier(1 + k_group_, G::kRowThreads);";
constexpr std::string_view kTakeThenRelease =
    "accumulate(weights.take(parity));\n    weights.release(parity, consumed());";
constexpr std::string_view kReleaseThenTake =
    "weights.release(parity, consumed());\n    accumulate(weights.take(parity));";
constexpr std::string_view kRefillLast = "copy(stage_ == 0 ? Config::kActivationStages - 1 : stage_ - 1);";
constexpr std::string_view kBeginStage = "if (new_stage) activations_.begin_stage();";
constexpr std::string_view kRefill = "if (new_stage) activations_.refill();";

// Three row tiles of one block, each with another table.
constexpr MultistageExample kSegments{.n = 264, .segment_rows = 128};

constexpr Mutation<MultistageExample> kMutations[] = {
    // Tables of segments.
    {"TableOfTheFirstTileForAll", "if constexpr (Config::kSegments) turn_table(at);", "", kWrong, kSegments},
    {"TableOfTheNextSegment", "parameter.table + segment * kLength",
     "parameter.table + (segment + 1) * kLength", kWrong, kSegments},
    {"TableOfTheSharesOfRows", "if (!look_up_.turn_to(at.place().row_tile)) return;",
     "if (!look_up_.turn_to(row_share(at))) return;", kOtherBarrier, kSegments},
    {"TableTurnedWhileOthersLookUp", "block_barrier();  // nobody looks up", "// nobody looks up",
     kEarlyWrite, kSegments},
    {"NoBarrierBehindTheTurnedTable", "look_up_.refill(thread_index(), G::kThreads);\n    block_barrier();",
     "look_up_.refill(thread_index(), G::kThreads);", kEitherRace, kSegments},

    // X stages.
    {"NoBarrierWhenAStageHasArrived",
     "if constexpr (Config::kKGroups == 1) {\n      block_barrier();\n    } else {",
     "if constexpr (Config::kKGroups == 1) {\n    } else {", kUnderWay},
    {"NoBarrierOfAGroupWhenAStageHasArrived", kBarrierOfGroup, "", kUnderWay, kTwoGroups},
    {"GroupsShareABarrier", kBarrierOfGroup, "named_barrier(1, G::kRowThreads);", kMixedBarriers, kTwoGroups},
    {"GroupsMeetForEachStage", kBarrierOfGroup, "named_barrier(1, G::kThreads);", kNamedBarrierMissing,
     kTwoGroups},
    {"HalfAGroupAtTheBarrier", kBarrierOfGroup, "named_barrier(1 + k_group_, G::kRowThreads / 2);",
     kMixedBarriers, kTwoGroups},
    {"OneCopyTooManyPending", "wait_copies<Config::kActivationStages - 2>();",
     "wait_copies<Config::kActivationStages - 1>();", kUnderWay},
    {"NoCommits", "commit_copies();  // for every stage", "// for every stage", kUnderWay},
    {"CommitsOfFullStagesOnly", "      advance();\n    }\n    commit_copies();  // for every stage",
     "      advance();\n    commit_copies();\n    }  // for every stage", kUnderWay, kThreeStages},
    {"StageRefilledThatIsRead", kRefillLast, "copy(stage_);", kEarlyWrite},
    {"RefilledBeforeTheBarrier",
     kBeginStage,
     "if (new_stage) {\n        activations_.refill();\n        activations_.begin_stage();\n      }",
     kUnderWay,
     {},
     kRefill,
     ""},
    {"TooManyStagesAtFirst", "stage < Config::kActivationStages - 1; ++stage) copy",
     "stage < Config::kActivationStages; ++stage) copy", kWrong},
    {"StageThatIsNotThere", "stage_ = next(stage_);", "", kUnwritten},
    {"PiecesOfOddTokensWhereThoseOfEvenOnesAre", "from_ = place(lane / 4, lane % 4);",
     "from_ = place(lane / 4 - lane / 4 % 2, lane % 4) + lane / 4 % 2 * kRowBytes;", kWrong, kOneUnit},
    {"SecondVectorIsTheFirst", "vector % 2 == 0 ? even_ : odd_", "even_", kWrong, kOneUnit},
    {"ThirdVectorIsTheFirst", "vector / 2 * 128 +", "0 +", kWrong, kLargeStages},
    {"EveryOctetIsTheFirst", "octet * 8 * kRowBytes;", "0;", kWrong, kOneUnit},
    {"TokensThatAreNotThereAreCopied", "inside && first_token_ + tokens < launch_.tokens", "inside",
     kPastActivations, kOneUnit},
    {"TokensOfEveryPassAreTheFirst", "row_ + tokens * launch_.activation_stride + column", "row_ + column",
     kWrong, kLargeStages},
    {"ColumnsThatAreNotThereAreCopied",
     "G::kWholeColumns || column + piece * 8 < Config::kK",
     "true",
     "activations|uses a register",
     {}},
    {"PartOfTheUnitForgotten", "+ part_ * Config::kStageColumns", "", kWrong, kOneUnit},
    {"PartsNotCounted", "if (++part_ < kUnitStages) return;\n    part_ = 0;", "", kWrong},
    {"TokensOfTheLastTile", "if (ahead_.advance()) find_tokens();", "ahead_.advance();", kWrong,
     kTwoTokenTiles},
    {"TokensOfTheLastTileOfLargeStages", "if (ahead_.advance()) find_tokens();", "ahead_.advance();", kWrong,
     kTwoTokenTilesOfLargeStages},
    {"GroupsShareTheirStages", "k_group * multistage_layout_of<Config>().activations_of_group_bytes()", "0",
     kUnderWay, kTwoGroups},
    {"StagesOfOneGroupAreReserved", "k_groups * activations_of_group_bytes();",
     "activations_of_group_bytes();", kUnderWay, kTwoTilesOfTwoGroups},

    // Units.
    {"BothGroupsBeginAtTheFirstUnit", "if (Config::kKGroups > 1 && k_group > 0) advance_one();", "",
     "ends while copies it issued are under way", kTwoGroups},
    {"GroupsTakeEveryUnit", "this->advance_in_segment(Config::kKGroups)", "this->advance_in_segment(1)",
     kPastWeights, kTwoGroups},
    {"GroupsTakeTheFirstUnitOfTheNextTile", "i < Config::kKGroups; ++i) another", "i < 1; ++i) another",
     "ends while copies it issued are under way", kTwoTilesOfTwoGroups},
    {"GroupsGoOnBehindTheSegment", "if (segment() <= units) return false;", "", kWrong, kTwoTilesOfTwoGroups},
    {"UnitsOfTheRangeNotCounted", "if (shared_left_ > 0) shared_left_ -= units;", "", kWrong,
     kCutOfTwoGroups},
    {"SharesOfEveryUnitAreBroughtToAGroup", "share_ += Config::kKGroups *", "share_ +=", kWrong, kTwoGroups},
    {"GroupsMultiplyEveryUnit", "int next = k_group_;", "int next = 0;", kWrong, kTwoGroups},
    {"ShareOfTheFirstWarp", "first_record_(warp % G::kRowWarps * G::kRecords)", "first_record_(0)", kWrong,
     kOneUnit},
    {"ShareOfTheLastTile", "if (at_.advance()) find_share();", "at_.advance();", kWrong, kTwoTiles},
    {"SharesBehindTheLast", "record_row_ = min(record_row_, G::kRecordRows - G::kRecords);", "", kPastWeights,
     kFewRows},
    {"PlaneScalesOfTheNextGroup", "kLayout.plane_group(at_.unit)", "kLayout.plane_group(at_.unit + 1)",
     kWrong, kPlane},
    {"SumsKeptForTheNextTile", "clear(sums_);\n      at.next_segment();", "at.next_segment();", kWrong,
     kTwoTiles},
    {"NoBarrierBehindTheTable", "block_barrier();  // the engine is filled", "", kUnwritten},
    {"RingRefilledBeforeItsUse", kTakeThenRelease, kReleaseThenTake,
     "arrives at an mbarrier more often than a phase expects", kRing},
    {"RegistersRefilledBeforeTheirUse", kTakeThenRelease, kReleaseThenTake, kWrong, kFiveUnits},

    // Products.
    {"CodesOfTheOtherMma", "2 * vector + i);", "2 * vector + 1 - i);", kWrong, kOneUnit},
    {"CodesOfTheLastVector", "make(a[(vector + 1) % 2], unit, vector + 1);",
     "make(a[(vector + 1) % 2], unit, vector);", kWrong, kOneUnit},
    {"XOfTheOtherMma", "a[0][record], x.x, x.y", "a[0][record], x.z, x.w", kWrong, kOneUnit},
    {"XWordsSwapped", "a[1][record], x.z, x.w", "a[1][record], x.w, x.z", kWrong, kOneUnit},
    {"ScalesOfTheFirstGroup", "unit.scales[record][group]", "unit.scales[record][0]", kWrong, kSmallGroups},
    {"ScalesOfTheOtherHalf", "select_bytes(scales, scales, 0x1010)", "select_bytes(scales, scales, 0x3232)",
     kWrong, kOneUnit},
    {"OffsetOfTheOtherHalf", "(a[1], high, high_offset)", "(a[1], high, low_offset)", kWrong, kOffsets},
    {"OffsetsOfTheOtherRow", "select_bytes(offsets, offsets, 0x1010)",
     "select_bytes(offsets, offsets, 0x3232)", kWrong, kOffsets},
    {"OffsetsOfTheFirstGroup", "unit.offsets[record][group]", "unit.offsets[record][0]", kWrong,
     kOffsetsOfSmallGroups},
    {"OffsetsOfTheFirstRecord", "unit.offsets[record][group]", "unit.offsets[0][group]", kWrong, kOffsets},
    {"ChannelOffsetsOfTheNextRecord", "kLayout.plane_group_offset(record_row_,",
     "kLayout.plane_group_offset(record_row_ ^ 1,", kPastWeights, kOffsetsOfChannels},
    {"SumsScaledByTheOtherHalf", "multiply_add(scale[c / 2], products",
     "multiply_add(scale[1 - c / 2], products", kWrong, kScaledSums},
    {"SumsScaledByTheFirstGroup", "add_products(unit, products, vector / kGroupVectors)",
     "add_products(unit, products, 0)", kWrong, kScaledSums},
    {"ProductsOfTheLastGroupKept", "if (kScaleSums && vector % kGroupVectors == 0) clear(products);",
     "if (kScaleSums && vector == 0) clear(products);", kWrong, kScaledSums},
    {"NoWaitForTheLaunchBefore", "wait_for_dependency<Config::kDependentLaunch>();\n    Multistage(",
     "Multistage(", kNotDependent, kDependent},

    // Exchange between the groups along K.
    {"NoBarrierBeforeTheExchange", "block_barrier();  // nobody is at", "// nobody is at", kWriteRace,
     kTwoTilesOfTwoGroups},
    {"NoBarrierInTheExchange",
     "block_barrier();\n#pragma unroll\n      for (int i = 0; i < G::kOwnOctets; ++i) {",
     "\n#pragma unroll\n      for (int i = 0; i < G::kOwnOctets; ++i) {", kUnwritten, kTwoGroups},
    {"NoBarrierBehindTheExchange", "block_barrier();  // the output passes", "// the output passes",
     kEarlyWrite, kTwoGroups},
    {"GroupsKeepWhatTheyShouldGive", "octet / G::kOwnOctets == group", "octet / G::kOwnOctets != group",
     kWrong, kTwoGroups},
    {"OctetsOfTheFirstGroup", "const int octet = group * G::kOwnOctets + i;", "const int octet = i;", kWrong,
     kTwoGroups},
    {"HalvesSwapped", "(group == 0 ? lower : upper)", "(group == 0 ? upper : lower)", kWrong, kTwoGroups},

    // Output.
    {"NoBarrierBeforeStaging", "warp_barrier();  // nobody is at the last octet",
     "// nobody is at the last octet", kEarlyWrite, kOneUnit},
    {"NoBarrierBehindStaging", "kHighsSwapped));\n    }\n    warp_barrier();", "kHighsSwapped));\n    }",
     kUnwritten, kOneUnit},
    {"TokensOfAPairSwapped", "odd == 0 ? kLows : kHighsSwapped", "odd == 1 ? kLows : kHighsSwapped", kWrong,
     kOneUnit},
    {"RowsFromTheNextButOne", "constexpr int kNextRow = 4;", "constexpr int kNextRow = 8;", kWrong, kOneUnit},
    {"WarpsShareTheirStaging",
     "thread_index() / layout::kLanes * multistage_layout_of<Config>().staging_bytes_of_warp();", "0;",
     "wrote at line .*, with no barrier between|read at line .*, with no barrier between", kOneUnit},
    {"OutputOfTheFirstRecordTwice", "first + i * 8 * 2)", "first + i % 2 * 8 * 2)", kUnwritten, kOneUnit},
    {"OutputOfTheNextRows", "lane() % kPieces * 16;", "(lane() ^ 1) % kPieces * 16;", kWrong, kOneUnit},
    {"EveryOctetInTheFirst", "copy_out(target.row, target.token + octet * 8)",
     "copy_out(target.row, target.token)", kWrittenTwice, kOneUnit},
    {"GroupsWriteTheSameTokens", "place.token_tile * Config::kTileTokens + k_group() * G::kOwnOctets * 8;",
     "place.token_tile * Config::kTileTokens;", kWrittenTwice, kTwoGroups},
    {"TokensThatAreNotThere", "token < launch.tokens && ", "", kPastOutput, kOneUnit},
    {"PiecesBehindTheLastRow", "launch_.output_stride) && piece.whole()", "launch_.output_stride)",
     kPastOutput, kRaggedPieces},
    {"ElementsBehindTheLastRow", "i < 8 && piece.channel + i < kChannels;", "i < 8;", kPastOutput,
     kUnalignedRows},
    {"RowsOfYTakenForAligned", "% 16 == 0 && stride % 8 == 0;", "% 16 == 0;",
     "of the output, an address that is no multiple of 16", kUnalignedRows},
    {"ChannelScalesOfTheOtherRow", "target.scales[i / 4][half]", "target.scales[i / 4][i % 2]", kWrong,
     kChannel},
    {"ChannelScalesOfTheFirstRecord", "target.scales[i / 4][half]", "target.scales[0][half]", kWrong,
     kChannel},
    {"ChannelScalesBehindTheLastRow", "G::kWholeRows ? row + 8 * i : min(row + 8 * i, Config::kN - 1)",
     "row + 8 * i", kPastWeights, kFewRowsOfChannels},

    // Parts of cut tiles.
    {"RecordsShareASlot", "store_partial_sums_4(slot + i * kNextOctet + record * kNextRecord",
     "store_partial_sums_4(slot + i * kNextOctet + 0 * kNextRecord", kEarlySum, kCut},
    {"GroupsShareASlot",
     "k_group() * G::kOwnOctets * kNextOctet",
     "0",
     "writes partial sum .* with nothing that orders",
     {.k_groups = 2, .partitions = 2}},
    {"PartsOfTheFirstOctets", "first_element() + first * kNextOctet;", "first_element();", kWrong,
     kPartsInTurns},
    {"OwnPartFirst", "K::slot(parts, part) + first_element()",
     "K::slot(parts, (part + block_index()) % parts.count) + first_element()", kOrder, kThreeParts},
    {"LastPartNotAdded", "part < parts.count; ++part) {\n      const float* slot",
     "part < parts.count - 1; ++part) {\n      const float* slot", kWrong, kCut},
    {"PartsTakenForWholeTiles", "segment == G::kStepsPerTile", "true", kWrittenTwice, kCut},
    {"EveryWarpArrives", "parts, flag, thread_index() == 0,", "parts, flag, thread_index() % 32 == 0,",
     kWriteRace, kCut},
};

class MultistageMutations : public testing::TestWithParam<Mutation<MultistageExample>> {};

TEST_P(MultistageMutations, IsCaught) {
  if (has_turn(GetParam())) expect_caught(GetParam());
}

INSTANTIATE_TEST_SUITE_P(DeviceCode, MultistageMutations, testing::ValuesIn(kMutations),
                         name_of<MultistageExample>);

TEST(UnchangedMultistageSources, AreRightWhereMistakesAreCaught) { expect_right_unchanged(kMutations); }

}  // namespace
}  // namespace lutsmith::emulator_test
