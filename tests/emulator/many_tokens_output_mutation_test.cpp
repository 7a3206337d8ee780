// The same for what follows the main loop: the exchange between the groups along K, the output, Stream-K.

#include <gtest/gtest.h>

#include <string_view>

#include "many_tokens_example.h"

namespace lutsmith::emulator_test {
namespace {

// Both units are in their stages before the first is multiplied.
constexpr ManyTokensExample kTilesInStages{
    .n = 136, .k = 128, .commit_steps = 4, .activation_stages = 4, .weight_stages = 2};
constexpr ManyTokensExample kTwoTilesOfTwoGroups{
    .n = 136, .k_groups = 2, .commit_steps = 4, .activation_stages = 4, .weight_stages = 2};
// So many octets that the groups along K take two turns to hand them over.
constexpr ManyTokensExample kTwoExchanges{.tile_tokens = 128,
                                          .k_groups = 2,
                                          .commit_steps = 1,
                                          .activation_stages = 4,
                                          .weight_stages = 2,
                                          .m = 100};
// The table of 3 bits has too few gaps for the output of four warpgroups and two groups' sums.
constexpr ManyTokensExample kPassageOfItsOwn{
    .bits = 3, .n = 136, .k_groups = 2, .commit_steps = 4, .activation_stages = 4, .weight_stages = 4};
// One tile of three units, each a part.
constexpr ManyTokensExample kThreeParts{
    .group = kPerChannel, .k = 384, .commit_steps = 4, .m = 1, .partitions = 3, .cancelling = true};
// More parts than are loaded together, and more octets.
constexpr ManyTokensExample kFiveParts{
    .k = 640, .tile_tokens = 64, .commit_steps = 4, .m = 40, .partitions = 5};
// Two tiles of seven units: the second has three parts, of which the first begins in the first tile.
constexpr ManyTokensExample kStraddling{.n = 136, .k = 840, .commit_steps = 4, .partitions = 5};
// One tile of two parts: for two groups along K, and with more octets than are added at once.
constexpr ManyTokensExample kPartsOfTwoGroups{
    .k_groups = 2, .commit_steps = 4, .activation_stages = 4, .weight_stages = 2, .partitions = 2};
constexpr ManyTokensExample kPartsOfManyOctets{
    .tile_tokens = 128, .commit_steps = 4, .m = 100, .partitions = 2};
// Whole tiles: four for two blocks; three, of which one is left over.
constexpr ManyTokensExample kWholeTiles{.n = 392, .k = 128, .commit_steps = 4, .partitions = 2};
constexpr ManyTokensExample kTileLeftOver{.n = 264, .k = 128, .commit_steps = 4, .partitions = 2};
constexpr ManyTokensExample kWholeTileLeftOver{.n = 384, .k = 128, .commit_steps = 4, .partitions = 2};
// A warpgroup's tokens take more than one turn at its staging.
constexpr ManyTokensExample kTwoTurns{.k = 128, .tile_tokens = 64, .commit_steps = 4, .m = 40};
// The last 16 bytes of a token reach behind its last row: in a Y that is aligned, and in one that is not.
constexpr ManyTokensExample kRaggedPieces{.n = 36, .k = 128, .commit_steps = 4, .m = 3, .output_padding = 4};
constexpr ManyTokensExample kUnalignedRows{.n = 36, .k = 128, .commit_steps = 4, .m = 3};
constexpr ManyTokensExample kChannel{.group = kPerChannel, .k = 128, .commit_steps = 4};
constexpr ManyTokensExample kFewRowsOfChannels{.group = kPerChannel, .n = 40, .k = 128, .commit_steps = 4};

// Two tiles of three panels, one after the other in the blocks of a cluster.
constexpr ManyTokensExample kTilesOfACluster{.n = 136, .k = 384, .cluster_blocks = 2, .commit_steps = 4};
// Two groups, which meet before the blocks exchange.
constexpr ManyTokensExample kClusterOfTwoGroups{.k = 512,
                                                .k_groups = 2,
                                                .cluster_blocks = 2,
                                                .commit_steps = 4,
                                                .activation_stages = 4,
                                                .weight_stages = 2};
// Six pairs of octets: the blocks take two turns to hand each other three of them, the second for one.
constexpr ManyTokensExample kTurnsOfACluster{
    .k = 256, .tile_rows = 192, .tile_tokens = 96, .cluster_blocks = 2, .m = 90};
// One block finishes two pairs, the other one.
constexpr ManyTokensExample kOddPairs{
    .k = 256, .tile_tokens = 48, .cluster_blocks = 2, .commit_steps = 4, .m = 40};
// Two tiles of five units in three partitions.
constexpr ManyTokensExample kCutOfACluster{
    .n = 136, .k = 1160, .tile_tokens = 64, .cluster_blocks = 2, .commit_steps = 4, .m = 60, .partitions = 3};

constexpr std::string_view kStoreUnderWay =
    "touches shared byte .* while the store that block .* is under way";
constexpr std::string_view kWaitFree = "wait_barrier_of_cluster(barriers.free, parity);";
constexpr std::string_view kWaitCome = "wait_barrier_of_cluster(barriers.come, parity);";
constexpr std::string_view kMeetBeforeFree = "if (Config::kKGroups == 1 || first > 0) Barriers::meet_all();";

constexpr Mutation<ManyTokensExample> kMutations[] = {
    // Exchange between the groups along K.
    {"NoBarrierBeforeTheExchange", "Barriers::meet_all();  // nobody is at", "// nobody is at", kWriteRace,
     kTwoTilesOfTwoGroups},
    {"NoBarrierInTheExchange",
     "Barriers::meet_all();\n#pragma unroll\n      for (int i = 0; i < kExchangedOctets; ++i) {",
     "\n#pragma unroll\n      for (int i = 0; i < kExchangedOctets; ++i) {", kUnwritten, kTwoGroups},
    {"NoBarrierBeforeTheNextExchange", "Barriers::meet_all();  // nobody is at",
     "if (first == 0) Barriers::meet_all();  // nobody is at", kReadRace, kTwoExchanges},
    {"FirstOctetsHandedOverAgain", "const int i = octet % G::kOwnOctets - first;",
     "const int i = octet % G::kOwnOctets;", kWrong, kTwoExchanges},
    {"AddedToTheFirstOctetsAgain", "sums[4 * (first + i) + c] = (group", "sums[4 * i + c] = (group", kWrong,
     kTwoExchanges},
    {"OctetsOfTheFirstExchangeKept", "upper = sums[4 * (G::kOwnOctets + first + i) + c];",
     "upper = sums[4 * (G::kOwnOctets + i) + c];", kWrong, kTwoExchanges},
    {"ExchangeOverTheTable", "passage_in_gaps() ? kGapOffset", "passage_in_gaps() ? 0", kReadRace,
     kTwoTilesOfTwoGroups},
    {"NoBarrierBehindTheExchange", "+ others[c];\n        }\n      }\n    }\n    Barriers::meet_all();",
     "+ others[c];\n        }\n      }\n    }", kEarlyWrite, kTwoGroups},
    {"GroupsKeepWhatTheyShouldGive", "octet / G::kOwnOctets != group", "octet / G::kOwnOctets == group",
     kWrong, kTwoGroups},
    {"OctetsOfTheFirstGroup", "load_shared(exchanged<kExchangedOctets>(exchange, group, i))",
     "load_shared(exchanged<kExchangedOctets>(exchange, 0, i))", kWrong, kTwoGroups},
    {"HalvesSwapped", "(group == 0 ? lower : upper)", "(group == 0 ? upper : lower)", kWrong, kTwoGroups},
    {"RowsShareTheExchange", "passage_place(row_thread());  // an octet",
     "passage_place(thread());  // an octet", kWriteRace, kTwoGroups},
    {"ProducersAtTheConsumersBarrier", "named_barrier(1, G::kConsumers)", "named_barrier(1, G::kThreads)",
     kNamedBarrierMissing, kTwoGroups},
    {"HalfOfTheConsumersAtTheBarrier", "named_barrier(1, G::kConsumers)",
     "named_barrier(1, G::kConsumers / 2)", kUnwritten, kTwoGroups},

    // Exchange between the blocks of a cluster.
    {"PassageOfTheOtherBlockTakenForFree", kWaitFree, "", kWriteRace, kTilesOfACluster},
    {"SumsOfTheOtherBlockNotWaitedFor", kWaitCome, "", kUnwritten, kCluster},
    {"FreeBeforeTheLastTurnIsRead", kMeetBeforeFree, "if (first == 0) Barriers::meet_all();", kEarlyWrite,
     kTurnsOfACluster},
    {"FreeToldByEachGroup", "if (consumer() == 0) arrive_remote", "if (row_thread() == 0) arrive_remote",
     kBytesMissing, kClusterOfTwoGroups},
    {"ParityOfFreeFlippedAtTheStart", kWaitFree, "wait_barrier_of_cluster(barriers.free, parity ^ 1u);",
     kBytesMissing, kCluster},
    {"ParityOfComeFlippedAtTheStart", kWaitCome, "wait_barrier_of_cluster(barriers.come, parity ^ 1u);",
     kUnwritten, kCluster},
    {"ParityOfTheExchangeNotFlipped", "parity ^= 1u;\n    }\n    Barriers", "}\n    Barriers", kWaitedBefore,
     kTurnsOfACluster},
    {"ParityOfTheExchangeForgotten", "unsigned int& parity) {", "unsigned int parity) {", kWaitedBefore,
     kTilesOfACluster},
    {"HalfOfTheSumsExpected", "coming * 2 * layout::kLanes", "coming * layout::kLanes", kStoreUnderWay,
     kCluster},
    {"FullTurnExpected", "min(pairs - first / 2, kTurn / 2);", "kTurn / 2;", kBytesMissing, kTurnsOfACluster},
    {"SumsSentToTheOwnBlock", "const int other = cluster_rank() ^ 1;", "const int other = cluster_rank();",
     kWrong, kCluster},
    {"BlocksFinishTheSamePairs", "((cluster_rank() + (", "((0 + (", kWrittenTwice, kCluster},
    {"OwnPairsSent", "of_pairs(sums, i, !odd), barriers", "of_pairs(sums, i, odd), barriers", kWrong,
     kCluster},
    {"OtherPairsKept", "own = of_pairs(sums, i, odd);", "own = of_pairs(sums, i, !odd);", kWrong, kCluster},
    {"SumsOfTheFirstTurnSentAgain", "exchanged<kTurn>(exchange, group, i - first), of_pairs(sums, i, !odd)",
     "exchanged<kTurn>(exchange, group, i - first), of_pairs(sums, i - first, !odd)", kWrong,
     kTurnsOfACluster},
    {"GroupsSendToTheSamePlace", "exchanged<kTurn>(exchange, group, i - first), of_pairs",
     "exchanged<kTurn>(exchange, 0, i - first), of_pairs", kWrong, kClusterOfTwoGroups},
    {"OddPairsAsMany", "kFinishedOctets - 2 * odd_pairs();", "kFinishedOctets;", kBytesMissing, kOddPairs},
    {"OutputOfTheOtherBlocksPairs", "kTogether * 8 * G::kBlocks;", "kTogether * 8;", kWrittenTwice,
     kOddPairs},
    {"PartsOfBlocksOverlap", "return i / 2 * 2 * G::kBlocks + i % 2;", "return i;",
     "writes partial sum .* with nothing that orders", kCutOfACluster},
    {"BlocksShareACounter", "parts.counter = parts.counter * G::kBlocks + cluster_rank();", ";", kEarlySum,
     kCutOfACluster},

    // Output.
    {"NoBarrierBeforeStaging", "begin_turn((turn + 1) * kTogether < finished_octets());", "", kEarlyWrite,
     kTilesInStages},
    {"NoBarrierBehindStaging", "void copy_out() {\n      Barriers::meet_warpgroup(warpgroup());",
     "void copy_out() {", kUnwritten, kFewRows},
    {"HalfAWarpgroupMeets", "named_barrier(2 + warpgroup, 128)", "named_barrier(2 + warpgroup, 64)",
     kMixedBarriers, kFewRows},
    {"WarpgroupsShareABarrier", "named_barrier(2 + warpgroup, 128)", "named_barrier(2, 128)", kMixedBarriers,
     kTwoTiles},
    {"WarpgroupAtTheBarrierOfAll", "named_barrier(2 + warpgroup, 128)", "named_barrier(1 + warpgroup, 128)",
     kMixedBarriers, kTwoTilesOfTwoGroups},
    {"WarpgroupsShareTheirStaging",
     "warpgroup() * shared_layout_of<Config>().staged_tokens() * kPiecesOfARow",
     "0",
     kWriteRace,
     {.k = 128, .commit_steps = 4}},
    {"WeightsOverX", "return activations_offset() + activation_stages * activation_stage_bytes();",
     "return activations_offset() + activation_stage_bytes();", kUnderWay},
    {"FlagOverTheBarriers", "2 * 8 * (activation_stages + weight_stages)",
     "8 * (activation_stages + weight_stages)", "touches shared bytes from .* on, which hold an mbarrier",
     kCut},
    {"PassageOverTheWeights", "kGapOffset : own_passage_offset();", "kGapOffset : weights_offset();",
     "brought, without waiting for its mbarrier", kPassageOfItsOwn},
    {"MatricesOfTokensAndRowsSwapped", "(thread % layout::kLanes / 16 * 8 + thread % 8) * kTokenBytes",
     "thread % 16 * kTokenBytes", kWriteRace, kFewRows},
    {"MatricesInTheOtherOrder", "pair(next + j / 2 * 4, j % 2 * 2,", "pair(next + j % 2 * 4, j / 2 * 2,",
     kWrong, kFewRows},
    {"OutputOfTheNextRows", "(thread % kPieces ^ thread / kPieces % 8) * 16;",
     "((thread ^ 1) % kPieces ^ thread / kPieces % 8) * 16;", kWrong, kFewRows},
    {"PiecesPermutedOnlyWhereTheyAreRead", "(column ^ thread % 8) * 16;", "column * 16;", kWrong, kFewRows},
    {"EveryTokenInTheFirstRow", "output_at<Config>(launch_, token_, row_)",
     "output_at<Config>(launch_, 0, row_)", kWrittenTwice, kFewRows},
    {"SumsOfTheFirstTurnAgain", "stage(sums + 4 * kTogether * i);", "stage(sums);", kWrong, kTwoTurns},
    {"OutputOfTheFirstTurnAgain", "to_ += kNextTokens * launch_.output_stride;", "", kWrittenTwice,
     kTwoTurns},
    {"NoBarrierBeforeTheNextTurn", "begin_turn((turn + 1) * kTogether < finished_octets());", "", kReadRace,
     kTwoTurns},
    {"TokensThatAreNotThere",
     "if (token_ + pass * kPassTokens < launch_.tokens) {",
     "{",
     kPastOutput,
     {.k = 128, .commit_steps = 4}},
    {"ElementsOfTokensThatAreNotThere", "token_ + token >= launch_.tokens || ", "", kPastOutput,
     kUnalignedRows},
    {"PiecesBehindTheLastRow", "launch_.output_stride) && whole_piece()", "launch_.output_stride)",
     kPastOutput, kRaggedPieces},
    {"ElementsBehindTheLastRow", " || row_ + i % 8 >= kChannels", "", kPastOutput, kUnalignedRows},
    {"RowsOfYTakenForAligned", "% 16 == 0 && stride % 8 == 0;", "% 16 == 0;",
     "of the output, an address that is no multiple of 16", kUnalignedRows},
    {"YTakenForAligned",
     "reinterpret_cast<unsigned long long>(matrix) % 16 == 0 && stride % 8 == 0;",
     "stride % 8 == 0;",
     "of the output, an address that is no multiple of 16",
     {.k = 128, .commit_steps = 4, .output_offset = 1}},
    {"ChannelScalesOfTheOtherRow", "(sums[c], scales_[c / 2]", "(sums[c], scales_[c % 2]", kWrong, kChannel},
    {"ChannelScalesOfTheFirstWarp", "row + thread / layout::kLanes * layout::kRecordRows", "row", kWrong,
     kChannel},
    {"ChannelScalesForgotten", "(sums[c], scales_[c / 2]", "(sums[c], 1", kWrong, kChannel},
    {"ChannelScalesBehindTheLastRow", "G::kWholeRows ? row + 8 * half : min(row + 8 * half, Config::kN - 1)",
     "row + 8 * half", kPastWeights, kFewRowsOfChannels},

    // The parts of a cut tile: two, of which one is still in registers.
    {"OwnPartTwice", "parts.own == parts.first_slot", "parts.own != parts.first_slot", kOrder, kCut},
    {"OwnPartForgotten", "add(sums + 4 * (first + i), other[i]);", "sums[4 * (first + i)] = other[i].x;",
     kOrder, kCut},
    {"OtherPartNotAdded", "add_other(sums, parts);", "", kOrder, kCut},
    {"OtherPartOfTheFirstGroup", "parts.first_slot) + first_element();",
     "parts.first_slot) + row_thread() * 4;", kOrder, kPartsOfTwoGroups},
    {"OtherPartOfTheFirstOctets", "slot + place(first + i) * kNextOctet, first",
     "slot + place(i) * kNextOctet, first", kOrder, kPartsOfManyOctets},
    {"OtherPartAddedToTheFirstOctets", "add(sums + 4 * (first + i), other[i]);",
     "add(sums + 4 * i, other[i]);", kOrder, kPartsOfManyOctets},
    {"ThreePartsTakenForTwo", "if (parts.count != 2) return", "if (parts.count < 2) return", kOrder,
     kThreeParts},

    // More parts than two.
    {"SlotsOneApart", "next + 2 * (part + j - 1)", "next + 1 * (part + j - 1)", kEarlySum, kThreeParts},
    {"FirstPartInTheOtherSlot", "part + j == 0 ? first : next", "next", kWrong, kStraddling},
    {"OwnPartFirst", "const int slot = part + j == 0 ? first : next + 2 * (part + j - 1) * K::kSlotFloats;",
     "const int turned = part + j < count ? (part + j + block_index()) % count : part + j;\n        "
     "const int slot = turned == 0 ? first : next + 2 * (turned - 1) * K::kSlotFloats;",
     kOrder, kThreeParts},
    {"LastPartNotAdded", "kNextOctet, part + j < count)", "kNextOctet, part + j < count - 1)", kWrong,
     kThreeParts},
    {"PartBehindTheLastAdded", "kNextOctet, part + j < count)", "kNextOctet, part + j <= count)",
     "bytes at byte .* of the partial sums, whose size is", kThreeParts},
    {"FifthPartForgotten", "part < parts.count; part += kPartsTogether",
     "part < parts.count - 1; part += kPartsTogether", kWrong, kFiveParts},
    {"FirstPartsAgain", "more ? part + kPartsTogether : 0,", "0,", kWrong, kFiveParts},
    {"PartsOfTheNextOctetsBeginBehindTheLast", "more ? part + kPartsTogether : 0,", "part + kPartsTogether,",
     kWrong, kFiveParts},
    {"PartsOfTheSameOctetsAgain", "more ? first : first + kTogether);", "first);", kWrong, kFiveParts},
    {"FifthPartOfTheNextOctets", "more ? first : first + kTogether);", "first + kTogether);", kEarlySum,
     kFiveParts},
    {"NextOctetsNotLoaded", "if (more || first + kTogether < finished_octets())", "if (more)", kWrong,
     kFiveParts},
    {"FifthPartNotLoaded", "if (more || first + kTogether < finished_octets())",
     "if (!more && first + kTogether < finished_octets())", kWrong, kFiveParts},

    // Stream-K.
    {"NoBarrierBeforeTheArrival", "meet();\n    if (leader)", "if (leader)", kUnordered, kCut},
    {"NoBarrierBehindTheArrival", "meet();\n    return load_shared(flag) != 0;",
     "return load_shared(flag) != 0;", kUnwritten, kCut},
    {"OneArrivalTooFew", "(parts.count - 1)", "(parts.count - 2)", kEarlySum, kThreeParts},
    {"CounterNotReset", "if (last) reset_arrivals(counter);", "", kCounterLeft, kCut},
    {"CounterResetByEveryPart", "if (last) reset_arrivals(counter);", "reset_arrivals(counter);", kWrong,
     kCut},
    {"EveryWarpgroupArrives", "leader = consumer() == 0", "leader = Exchange::thread() == 0", kWriteRace,
     kCut},
    {"OctetsShareASlot", "store_partial_sums_4(slot + place(i) * kNextOctet",
     "store_partial_sums_4(slot + 0 * kNextOctet", kEarlySum, kCut},
    {"GroupsShareASlot", "return first_octet() * kNextOctet + row_thread() * 4;", "return row_thread() * 4;",
     "writes partial sum .* with nothing that orders", kPartsOfTwoGroups},
    {"OneSlotForBothEndsOfAPartition", "< tile_begin ? kSlotFloats : 0;", "< tile_begin ? 0 : 0;", kUnordered,
     kCut},
    {"PartsTakenForWholeTiles", "segment == G::kStepsPerTile", "true", kWrittenTwice, kCut},
    {"GrainsOfEveryPartition", "static_cast<unsigned int>(partition * launch.extra_grains) / launch.sharing",
     "partition * launch.extra_grains", kCounterLeft, kCut},
    {"ExtraGrainsIgnored", "int extra = min(partition, launch.extra_grains);", "int extra = 0;", kCounterLeft,
     kCut},
    {"RangeBeginsAtItsTile", "unit = first % G::kStepsPerTile;", "", kCounterLeft, kCut},
    {"RangeOfTheFirstTile", "first_shared() + first / G::kStepsPerTile;", "first_shared();", kCounterLeft,
     kCut},
    {"RangeStaysAtItsTile", "} else if ((shared_left_ -= units) > 0) {\n      ++tile_;",
     "} else if ((shared_left_ -= units) > 0) {", kCounterLeft, kCut},
    {"SegmentPastTheRange", "shared_left_ > 0 ? min(left, shared_left_) : left", "left", kBytesMissing, kCut},
    {"UnitsOfTheTileBeforeCounted", "begin = end;", "", kBytesMissing, kTwoTiles},
    {"WholeTilesForgotten", "shared_left_ + launch.whole_tiles * G::kStepsPerTile;", "shared_left_;", kWrong,
     kWholeTiles},
    {"WholeTilesOneApart", "tile_ += partitions();", "++tile_;", kWrittenTwice, kWholeTiles},
    {"SharedTilesFromTheFirst", "return launch_.whole_tiles * partitions();", "return 0;", kWrittenTwice,
     kTileLeftOver},
    {"WholeTilesBehindTheShared", "++tile_;\n    } else {\n      tile_ = partition();",
     "++tile_;\n    } else {\n      tile_ += partitions();", kWrong, kTileLeftOver},
    {"EveryBlockShares", "if (partition() < launch.sharing) {", "{", kPastWeights, kWholeTileLeftOver},
    {"GroupsOfTilesAlwaysFull", "min(kGroupTiles, token_tiles - group * kGroupTiles)", "kGroupTiles", kWrong,
     kTwoTiles},
};

class ManyTokensOutputMutations : public testing::TestWithParam<Mutation<ManyTokensExample>> {};

TEST_P(ManyTokensOutputMutations, IsCaught) {
  if (has_turn(GetParam())) expect_caught(GetParam());
}

INSTANTIATE_TEST_SUITE_P(DeviceCode, ManyTokensOutputMutations, testing::ValuesIn(kMutations),
                         name_of<ManyTokensExample>);

TEST(UnchangedSourcesForManyTokensOutput, AreRightWhereMistakesAreCaught) {
  expect_right_unchanged(kMutations);
}

}  // namespace
}  // namespace lutsmith::emulator_test
