// Mistakes that somebody could make in the main loop for many tokens, each made in an emitted source: the
// emulator has to catch every one of them, and in the way that is stated here. docs/emulator.md says which
// mistakes it cannot catch.

#include <gtest/gtest.h>

#include <string_view>

#include "many_tokens_example.h"

namespace lutsmith::emulator_test {
namespace {

// What the emulator says about products, stages and registers.
constexpr std::string_view kNotFenced = "multiplies without fence_registers";
constexpr std::string_view kChangedA = "has changed A since the product issued at line .*, without waiting";
constexpr std::string_view kChangedSums =
    "has written sums since the product issued at line .*, without waiting";
constexpr std::string_view kStillMultiplied =
    "writes shared byte .* (while the product issued at line .* reads it|that the product issued at line .* "
    "read, without waiting for it)";
constexpr std::string_view kNotWaitedFor =
    "that the bulk copy issued at line .* brought, without waiting for";
constexpr std::string_view kTooManyBytes = "of an mbarrier gets .* bytes more than it expects";
constexpr std::string_view kNotInitialised = "uses an mbarrier that nobody has initialised";
constexpr std::string_view kInitialisationRace =
    "uses an mbarrier that thread .* initialised at line .*, with no barrier between";
constexpr std::string_view kSecondInitialisation = "initialises an mbarrier a second time";
constexpr std::string_view kNoRegisters = "deadlock: .*\n(.*\n)*.*waiting for registers that others give up";

constexpr ManyTokensExample kOneUnitForTwoGroups{
    .k = 128, .k_groups = 2, .commit_steps = 4, .activation_stages = 4, .weight_stages = 2};
constexpr ManyTokensExample kUnitsOfTwoGroups{
    .k = 520, .k_groups = 2, .commit_steps = 4, .activation_stages = 4, .weight_stages = 2};
constexpr ManyTokensExample kAtOnce{.commit_steps = 4};
constexpr ManyTokensExample kThreeWarpgroups{.n = 192, .k = 128, .tile_rows = 192, .commit_steps = 4};
constexpr ManyTokensExample kTwoTokenTiles{.k = 128, .m = 35};
constexpr ManyTokensExample kSmallGroups{.group = 64, .commit_steps = 4};
constexpr ManyTokensExample kOffsets{.offsets = true};
constexpr ManyTokensExample kOffsetsOfSmallGroups{.group = 64, .commit_steps = 4, .offsets = true};
constexpr ManyTokensExample kOffsetsOfChannels{
    .group = kPerChannel, .n = 64, .commit_steps = 4, .offsets = true};
// Three row tiles of a block, and two of two warpgroups each, every one with another table.
constexpr ManyTokensExample kSegments{.n = 264, .commit_steps = 4, .segment_rows = 128};
constexpr ManyTokensExample kWideSegments{
    .n = 264, .k = 128, .tile_rows = 256, .commit_steps = 4, .segment_rows = 256};
constexpr ManyTokensExample kStaggeredSegments{.n = 264, .segment_rows = 128};
constexpr ManyTokensExample kPlane{.group = 256, .n = 64, .commit_steps = 4};
constexpr ManyTokensExample kDependent{.k = 128, .commit_steps = 4, .dependent_launch = true};

// Pieces that several mutations change.
constexpr std::string_view kFence =
    R"(fence_registers();
#pragma unroll
    for (int i = 0; i < Config::kCommitSteps; ++i) {
      multiply_async)";
constexpr std::string_view kWaitAndRelease =
    R"(    wait_products<1>();
    if constexpr (kNewStage) {  // the batch before was the last that used its stage
      release_activations();
      used_stage_ = stage;
    })";
constexpr std::string_view kReadCodes =
    R"(wait_barrier(barriers_.weights_full + weight_stage_, weight_parity_);
    fragments_.read(weight_stage_);)";
constexpr std::string_view kReleaseWeights = "release_weights(weight_stage_);\n      next_weight_stage();";
constexpr std::string_view kNotReleased = "next_weight_stage();";
constexpr std::string_view kScaleNext =
    R"(      if (kNext > 0 || more) {
        fragments_.template scale<kNext, (kNext > kReadingBatch)>(a_[kNext % 2][0], values_);
      }
)";
constexpr std::string_view kLookUpNext =
    "if (kBatch + 2 < G::kBatches || more) fragments_.look_up(values_, natural_[kBatch % 2], engine_);\n";
constexpr std::string_view kToStage =
    "stages + stage * shared_layout_of<Config>().activation_stage_bytes(), map";
constexpr std::string_view kActivationsEmpty = "wait_barrier(barriers.activations_empty + stage, parity);";
constexpr std::string_view kWeightsEmpty = "wait_barrier(barriers_.weights_empty + stage_, parity);";
constexpr std::string_view kParityOfEmptyWeights =
    R"(unsigned int parity = 1;  // a stage that was never used is empty
#pragma unroll 1
    while (at_.units_left > 0) {)";
constexpr std::string_view kEmptyWeightsWaitedFor =
    R"(unsigned int parity = 0;
#pragma unroll 1
    while (at_.units_left > 0) {)";
constexpr std::string_view kClearSums = "for (int i = 0; i < G::kSums; ++i) sums_[i] = 0;\n      if";
constexpr std::string_view kStartWeights = "barriers.initialize_weights();\n      weights.start();";
constexpr std::string_view kMeetAtStart = "named_barrier(6, 2 * layout::kLanes + G::kConsumers);";
constexpr std::string_view kFillAndMeet =
    R"(fill_engine(shared, parameter.form);
      meet_at_start();)";
constexpr std::string_view kWaitForLaunch =
    "wait_for_dependency<Config::kDependentLaunch>();\n    ActivationProducer";
constexpr std::string_view kClaim = "claim_registers<kConsumerRegisters>();";

constexpr Mutation<ManyTokensExample> kMutations[] = {
    // Tables of segments.
    {"TableOfTheFirstTileForAll", "if constexpr (Config::kSegments) turn_table(at);", "", kWrong,
     kStaggeredSegments},
    {"TableOfTheNextSegment", "parameter.table + segment * kLength",
     "parameter.table + (segment + 1) * kLength", kWrong, kSegments},
    {"TableTurnedToButNotFilled", "    engine_.refill(consumer(), G::kConsumers);\n", "", kWrong, kSegments},
    {"TableFilledByTheWrongThreads", "engine_.refill(consumer(), G::kConsumers);",
     "engine_.refill(thread_index(), G::kConsumers);", kWrong, kSegments},
    {"TableTurnedWhileOthersLookUp", "ConsumerBarriers<Config>::meet_all();  // nobody looks up",
     "// nobody looks up", kEarlyWrite, kWideSegments},
    {"NoBarrierBehindTheTurnedTable",
     "engine_.refill(consumer(), G::kConsumers);\n    ConsumerBarriers<Config>::meet_all();",
     "engine_.refill(consumer(), G::kConsumers);", kEitherRace, kSegments},
    {"TableTurnedBehindTheFirstBatches", "        fill();\n#pragma unroll 1",
     "        fill();\n        turn_table(at);\n#pragma unroll 1", kWrong, kSegments,
     "if constexpr (Config::kSegments) turn_table(at);", ""},

    // Products: registers.
    {"NoFenceBeforeProducts", kFence,
     "\n#pragma unroll\n    for (int i = 0; i < Config::kCommitSteps; ++i) {\n      multiply_async",
     kNotFenced},
    {"FenceOncePerStage", kFence,
     "if (kNewStage) fence_registers();\n#pragma unroll\n    for (int i = 0; i < Config::kCommitSteps; ++i) "
     "{\n      multiply_async",
     kNotFenced},
    {"NoWaitForTheBatchBefore", "wait_products<1>();", "", kStillMultiplied},
    {"OneBatchTooManyUnderWay", "wait_products<1>();", "wait_products<2>();", kChangedA},
    {"SameBatchRefilled", "a_[kNext % 2][0], values_", "a_[kBatch % 2][0], values_", kNeverSet},
    {"LastBatchOfAUnitRefilled", "make<kNext>(a_[kNext]);", "make<kNext>(a_[1]);", kChangedA, kAtOnce},
    {"OtherBatchMultiplied", "a_[kBatch % 2][i]", "a_[(kBatch + 1) % 2][i]", kNeverSet},
    {"SumsReadWhileProductsAreUnderWay", "wait_products<0>();\n      release", "release", kNeverSet},
    {"LastWaitLeavesABatch", "wait_products<0>();\n      release", "wait_products<1>();\n      release",
     kNeverSet},
    {"SumsNotCleared", kClearSums, "for (int i = 0; false; ++i) {}\n      if", kNeverSet},
    {"SumsClearedOnce", kClearSums,
     "for (int i = 0; begin == 0 && i < G::kSums; ++i) sums_[i] = 0;\n      if", kWrong, kTwoTiles},
    {"SumsClearedForEveryUnit", "unit<0>(next + Config::kKGroups < end);",
     "for (int i = 0; i < G::kSums; ++i) sums_[i] = 0;\n          unit<0>(next + Config::kKGroups < end);",
     kChangedSums},
    {"FirstSumNotCleared", kClearSums, "for (int i = 1; i < G::kSums; ++i) sums_[i] = 0;\n      if",
     kNeverSet},
    {"GroupWithoutUnitsHasNoZeros", kClearSums,
     "for (int i = 0; next < end && i < G::kSums; ++i) sums_[i] = 0;\n      if", kNeverSet,
     kOneUnitForTwoGroups},
    {"EveryUnitBeginsAnew", "operand + 2 * i, true)", "operand + 2 * i, kFirst + i > 0)", kWrong},
    {"EveryProductBeginsAnew", "operand + 2 * i, true)", "operand + 2 * i, false)", kWrong},
    {"OneLaneCommits", "    commit_products();\n", "    if (lane_ == 0) commit_products();\n",
     "issues another product than the first thread of its warpgroup"},

    // Products: where X lies.
    {"OperandOfTheNextStep", "operand + 2 * i", "operand + 2 * (i ^ 1)", kWrong, kAtOnce},
    {"OperandHalfAStepOn", "operand + 2 * i", "operand + i", "which is no multiple of 1024, nor 32, 64 or 96",
     kAtOnce},
    {"OperandOfTheStagesFirstBatch", "2 * (kFirst % G::kStepsPerStage);", "0;", kWrong},
    {"OperandOfTheOtherStage", "(stage * shared_layout_of<Config>().activation_stage_bytes() >> 4)",
     "((stage ^ 1) * shared_layout_of<Config>().activation_stage_bytes() >> 4)", kUnderWay},
    {"OperandInBytes", "activation_stage_bytes() >> 4)", "activation_stage_bytes())",
     "touches .* bytes at shared byte .*; the block has"},

    // Stages of X.
    {"XReleasedWhenItsProductsAreIssued", "release_activations();\n      used_stage_ = stage;",
     "used_stage_ = stage;\n      release_activations();", kStillMultiplied},
    {"XReleasedBeforeTheWait", kWaitAndRelease,
     R"(if constexpr (kNewStage) {
      release_activations();
      used_stage_ = stage;
    }
    wait_products<1>();)",
     kStillMultiplied},
    {"XReleasedBeforeTheLastWait", "wait_products<0>();\n      release_activations();",
     "release_activations();\n      wait_products<0>();", kStillMultiplied, kTwoTiles},
    {"OtherStageOfXReleased", "arrive(barriers_.activations_empty + used_stage_);",
     "arrive(barriers_.activations_empty + (used_stage_ ^ 1));", kBytesMissing},
    {"XNeverReleased", "if (used_stage_ >= 0 && lane_ == 0) arrive", "if (false) arrive", kBytesMissing},
    {"XReleasedByEveryLane", "if (used_stage_ >= 0 && lane_ == 0) arrive", "if (used_stage_ >= 0) arrive",
     kStillMultiplied},
    {"NoWaitForX", "if constexpr (kNewStage) wait_barrier(", "if constexpr (false) wait_barrier(", kUnderWay},
    {"OneLaneWaitsForX", "if constexpr (kNewStage) wait_barrier(",
     "if (kNewStage && lane_ == 0) wait_barrier(", kUnderWay},
    {"ParityOfXNotFlipped", "activation_parity_ ^= 1u;", "", kWaitedBefore},
    {"ParityOfXFlippedAtTheStart", "unsigned int activation_parity_ = 0;",
     "unsigned int activation_parity_ = 1;", kWaitedBefore},
    {"EmptyXNotWaitedFor", kActivationsEmpty, "", kTooManyArrivals},
    {"EmptyXWaitedForAtTheStart",
     "unsigned int parity = 1;  // a stage that was never used is empty\n#pragma unroll 1\n    while (at.",
     "unsigned int parity = 0;\n#pragma unroll 1\n    while (at.", kBytesMissing},
    {"ParityOfEmptyXNotFlipped",
     "if (++stage == Config::kActivationStages) {\n          stage = 0;\n          parity ^= 1u;",
     "if (++stage == Config::kActivationStages) {\n          stage = 0;", kWaitedBefore},

    // Stages of weights.
    {"WeightsReleasedByOneLane", "arrive(barriers_.weights_empty",
     "if (lane_ == 0) arrive(barriers_.weights_empty", kBytesMissing},
    {"WeightsReleasedBeforeTheyAreRead",
     kReadCodes,
     R"(wait_barrier(barriers_.weights_full + weight_stage_, weight_parity_);
    release_weights(weight_stage_);
    fragments_.read(weight_stage_);)",
     kEarlyWrite,
     {},
     kReleaseWeights,
     kNotReleased},
    {"WeightsReleasedBeforeTheyAreUsed",
     kReadCodes,
     R"(wait_barrier(barriers_.weights_full + weight_stage_, weight_parity_);
    fragments_.read(weight_stage_);
    release_weights(weight_stage_);)",
     kUnused,
     {},
     kReleaseWeights,
     kNotReleased},
    {"WeightsEmptyAtOneArrivalOfAWarp", "kWarpsOfUnit * layout::kLanes", "kWarpsOfUnit", kEarlyWrite},
    {"WeightsNeverReleased", kReleaseWeights, kNotReleased, kBytesMissing},
    {"OtherStageOfWeightsReleased", kReleaseWeights,
     "release_weights(weight_stage_ ^ 1);\n      next_weight_stage();", kNotWaitedFor, kUnitsOfTwoGroups},
    {"NoWaitForWeights", "wait_barrier(barriers_.weights_full + weight_stage_, weight_parity_);", "",
     kUnderWay},
    {"ParityOfWeightsNotFlipped", "weight_parity_ ^= 1u;", "", kWaitedBefore},
    {"ParityOfWeightsFlippedAtTheStart", "unsigned int weight_parity_ = 0;",
     "unsigned int weight_parity_ = 1;", kWaitedBefore},
    {"EmptyWeightsNotWaitedFor", kWeightsEmpty, "", kTooManyArrivals},
    {"ParityOfEmptyWeightsNotFlipped", "stage_ = 0;\n        parity ^= 1u;", "stage_ = 0;", kTooManyArrivals},
    {"EmptyWeightsTakenForNeverUsed", kParityOfEmptyWeights, kEmptyWeightsWaitedFor, kTooManyArrivals},
    {"EmptyWeightsWaitedForAtTheStart",
     kParityOfEmptyWeights,
     kEmptyWeightsWaitedFor,
     kBytesMissing,
     {.weight_stages = 2}},
    {"StartBringsAUnitTooMany", "stage_ < Config::kKGroups && at_", "stage_ <= Config::kKGroups && at_",
     kPastShared},
    {"StartBringsUnitsThatAreNotThere", "stage_ < Config::kKGroups && at_.units_left > 0;",
     "stage_ < Config::kKGroups;", kPastWeights, kOneUnitForTwoGroups},
    {"StartForTheFirstGroupOnly", "++stage_) copy();", "++stage_) if (stage_ == 0) copy();", kBytesMissing,
     kTwoGroups},
    {"StagesOfTheStartFilledAgain", "at_.units_left > 0; ++stage_) copy();",
     "at_.units_left > 0; ++stage_) copy();\n    stage_ = 0;", kTooManyArrivals},
    {"GroupsBeginAtTheSameStage", "weight_stage_(k_group_)", "weight_stage_(0)", kEarlyWrite, kTwoGroups},
    {"CodesOfUnitsThatNeverCome", "next + Config::kKGroups < end", "next + 1 < end", kBytesMissing,
     kTwoGroups},

    // The barriers of stages.
    {"OneArrivalTooFewEmptiesAStage", "kWarpsOfUnit = 4 * G::kRowGroups;",
     "kWarpsOfUnit = 4 * G::kRowGroups - 1;", kEarlyWrite},
    {"OneArrivalTooManyEmptiesAStage", "kWarpsOfUnit = 4 * G::kRowGroups;",
     "kWarpsOfUnit = 4 * G::kRowGroups + 1;", kBytesMissing},
    {"BothGroupsEmptyAStage", "kWarpsOfUnit = 4 * G::kRowGroups;", "kWarpsOfUnit = 4 * G::kWarpgroups;",
     kBytesMissing, kUnitsOfTwoGroups},
    {"TwoArrivalsFillAStageOfX", "initialize_barrier(activations_full + stage, 1);",
     "initialize_barrier(activations_full + stage, 2);", kBytesMissing},
    {"NoFenceOfTheBarriers", "layout::kLanes);\n    }\n    fence_barrier_initialization();",
     "layout::kLanes);\n    }", "gives an mbarrier to a bulk copy before the fence of its initialisation"},
    {"NoFenceOfTheBarriersOfX", "kWarpsOfUnit);\n    }\n    fence_barrier_initialization();",
     "kWarpsOfUnit);\n    }", "gives an mbarrier to a bulk copy before the fence of its initialisation"},
    {"OneStageWithoutBarriers", "stage < Config::kWeightStages; ++stage) {\n      initialize_barrier",
     "stage < Config::kWeightStages - 1; ++stage) {\n      initialize_barrier", kNotInitialised},
    {"EveryLaneInitialises", kStartWeights,
     "}\n    barriers.initialize_weights();\n    if (leads) {\n      weights.start();",
     kSecondInitialisation},
    {"EveryLaneInitialisesX", "barriers.initialize_activations();\n    }",
     "}\n    barriers.initialize_activations();", kSecondInitialisation},
    {"WeightsStartBeforeTheirBarriers", kStartWeights,
     "weights.start();\n      barriers.initialize_weights();", kNotInitialised},
    {"WeightsBarriersBehindTheMeeting",
     "barriers.initialize_weights();\n      weights.start();\n    }",
     "}",
     kNotInitialised,
     {},
     "if (leads) weights.run();",
     "if (leads) barriers.initialize_weights();\n    if (leads) weights.run();"},
    {"XBarriersBehindTheMeeting",
     "barriers.initialize_activations();\n    }",
     "}",
     kInitialisationRace,
     {},
     "if (!leads) return;",
     "if (!leads) return;\n    barriers.initialize_activations();"},
    {"NoBarrierBehindTheTableAndTheBarriers", kMeetAtStart, "", kInitialisationRace},
    {"ConsumersDoNotMeetAtTheStart", "parameter.form);\n      meet_at_start();", "parameter.form);",
     kInitialisationRace},
    {"WeightsDoNotMeetAtTheStart", "meet_at_start();\n    if (leads) weights", "if (leads) weights",
     kNamedBarrierMissing},
    {"XDoesNotMeetAtTheStart", "meet_at_start();\n    if (!leads)", "if (!leads)", kNamedBarrierMissing},
    {"OneWarpTooFewMeetsAtTheStart", kMeetAtStart, "named_barrier(6, layout::kLanes + G::kConsumers);",
     kMixedBarriers},
    {"AllWarpsAwaitedAtTheStart", kMeetAtStart, "named_barrier(6, G::kThreads);", kNamedBarrierMissing},
    {"TableFilledBehindTheMeeting", kFillAndMeet,
     R"(meet_at_start();
      fill_engine(shared, parameter.form);)",
     kReadRace},
    {"TableFilledByTheConsumersOfAll", "Engine::fill(shared, form, consumer(), G::kConsumers)",
     "Engine::fill(shared, form, thread_index(), G::kThreads)", kUnwritten},
    {"EveryLaneBringsX", "if (!leads) return;", "", kTooManyArrivals},
    {"EveryLaneBringsWeights", "if (leads) weights.run();", "weights.run();", kTooManyArrivals},

    // Copies.
    {"HalfOfXExpected", "arrive_expecting(barrier, shared_layout_of<Config>().activation_stage_bytes());",
     "arrive_expecting(barrier, shared_layout_of<Config>().activation_stage_bytes() / 2);", kTooManyBytes},
    {"TooMuchOfXExpected", "arrive_expecting(barrier, shared_layout_of<Config>().activation_stage_bytes());",
     "arrive_expecting(barrier, shared_layout_of<Config>().activation_stage_bytes() + 16);", kBytesMissing},
    {"ScalesNotExpected", "arrive_expecting(barrier, shared_layout_of<Config>().weight_stage_bytes());",
     "arrive_expecting(barrier, G::kPanels * kPanelBytes);", kTooManyBytes, kPlane},
    {"XOfTheOtherHalf", "layout::kRecordColumns + part * many", "layout::kRecordColumns + (1 - part) * many",
     kWrong},
    {"XOfTheFirstUnit", "panel_of_unit<Config>(at.unit) * layout::kRecordColumns + part",
     "0 * layout::kRecordColumns + part", kWrong},
    {"XOfTheNextToken", "first_token, barrier);", "first_token + 1, barrier);", kWrong},
    {"XOfTheFirstTokenTile", "if (at.advance() && at.units_left > 0) first_token",
     "if (at.advance() && false) first_token", kWrong, kTwoTokenTiles},
    {"XInTheOtherStage", kToStage,
     "stages + (stage ^ 1) * shared_layout_of<Config>().activation_stage_bytes(), map", kUnderWay},
    {"XOneTokenOn", kToStage,
     "stages + 128 + stage * shared_layout_of<Config>().activation_stage_bytes(), map",
     "copies a box to shared byte .*, which is no multiple of 1024"},
    {"StagesOfXNotAligned", "(look_up_bytes + kAlignment - 1) / kAlignment * kAlignment",
     "look_up_bytes - 512", "copies a box to shared byte .*, which is no multiple of 1024"},
    {"WeightsOfTheFirstRowTile", "at_.place().row_tile * G::kPanels;", "0 * G::kPanels;", kWrong, kTwoTiles},
    {"WeightsOfTheNextRowTileNotFound", "if (at_.advance() && at_.units_left > 0) find_row_tile();",
     "if (at_.advance() && false) find_row_tile();", kWrong, kTwoTiles},
    {"WeightsOfTheFirstColumnPanel", "panel_of_unit<Config>(at_.unit));\n  }", "0);\n  }", kWrong, kCut},
    {"WeightsOfTheSameUnitAgain", "unit_ += G::kBlocks * kPanelBytes;", "", kWrong},
    {"RowPanelsOneColumnPanelApart", "from * packed_layout_of<Config>().row_panel_bytes()",
     "from * kPanelBytes", kWrong},
    {"RowPanelsSwapped", "copy_bulk(to + panel * kStagedBytes, ",
     "copy_bulk(to + (panel ^ 1) * kStagedBytes, ", kWrong},
    {"RowPanelsBehindTheLast", "G::kWholePanels ? panel : min(panel, G::kRowPanels - 1 - first_panel_)",
     "panel", kPastWeights, kFewRows},
    {"PlaneScalesOfTheNextGroup", "at_.unit) - behind)", "at_.unit) - behind + 1)", kWrong, kPlane},
    {"PlaneScalesOfTheFirstPanel", "layout::kRecordsPerPanel * (first_panel_ + from),",
     "layout::kRecordsPerPanel * first_panel_,", kWrong, kPlane},
    {"PlaneScalesOverTheCodes", "to + panel * kStagedBytes + kPanelBytes, weights_",
     "to + panel * kStagedBytes, weights_", kUnderWay, kPlane},

    // Codes and scales.
    {"SelectorsOfLowAndHighSwapped", "kLows = 0x5410, kHighs = 0x7632;", "kLows = 0x7632, kHighs = 0x5410;",
     kWrong},
    {"SwappedSelectorNotSwapped", "kLowsSwapped = 0x1054", "kLowsSwapped = 0x5410", kWrong},
    {"HighPairOfTheWrongLanes", "high_pair_((lane & 2) != 0)", "high_pair_((lane & 4) != 0)", kWrong},
    {"FirstExchangeWithTheNextLane", "exchange_lanes(high_pair_ ? word0 : word1, 2)",
     "exchange_lanes(high_pair_ ? word0 : word1, 1)", kWrong},
    {"SecondExchangeAcrossTheQuad", "exchange_lanes(select_bytes(own, received, send_), 1)",
     "exchange_lanes(select_bytes(own, received, send_), 3)", kWrong},
    {"KeepsWhatItSends", "keep_ = kept(odd ? highs : lows);", "keep_ = kept(odd ? lows : highs);", kWrong},
    {"CodesOfTheOtherStep", "natural_[kBatch % 2], engine_", "natural_[(kBatch + 1) % 2], engine_", kWrong},
    {"RecordOfTheNextWarp", "% G::kRowGroups * 4 + warp % 4)", "% G::kRowGroups * 4 + (warp ^ 1) % 4)",
     kWrong},
    {"ScalesOfTheFirstGroup", ": unit_.scales[0][kGroup];", ": unit_.scales[0][0];", kWrong, kSmallGroups},
    {"ScalesOfTheOtherRow", "select_bytes(scales, scales, 0x1010)", "select_bytes(scales, scales, 0x3232)",
     kWrong},
    {"ScaleOfTheOtherHalf", "multiply_pairs<Config::kElement>(values[1], high)",
     "multiply_pairs<Config::kElement>(values[1], low)", kWrong},
    {"ScalesOfTheOtherRecord", "? packed_layout_of<Config>().panel_bytes() -",
     "? packed_layout_of<Config>().panel_bytes() + layout::kLanes - 2 *", kPastShared, kPlane},

    // Offsets.
    {"OffsetOfTheOtherHalf", "(values[1], high, high_offset)", "(values[1], high, low_offset)", kWrong,
     kOffsets},
    {"OffsetsOfTheOtherRow", "select_bytes(offsets, offsets, 0x1010)",
     "select_bytes(offsets, offsets, 0x3232)", kWrong, kOffsets},
    {"OffsetsOfTheFirstGroup", ": unit_.offsets[0][kGroup];", ": unit_.offsets[0][0];", kWrong,
     kOffsetsOfSmallGroups},
    {"OffsetsNotKept", "kept ? kept_offsets_[kGroup] : unit_.offsets[0][kGroup]", "unit_.offsets[0][kGroup]",
     kWrong, kOffsets},
    {"OffsetsKeptAreScales", "kept_offsets_[i] = unit_.offsets[0][i];",
     "kept_offsets_[i] = unit_.scales[0][i];", kWrong, kOffsets},
    {"ChannelOffsetsOfTheFirstPanel",
     "kLayout.plane_group_offset(layout::kRecordsPerPanel * (first_panel_ + from),",
     "kLayout.plane_group_offset(layout::kRecordsPerPanel * first_panel_,", kWrong, kOffsetsOfChannels},

    // The way to A registers, staggered: each step for a later batch.
    {"LookedUpBeforeTheLastAreScaled",
     kScaleNext,
     "",
     kWrong,
     {},
     kLookUpNext,
     R"(if (kBatch + 2 < G::kBatches || more) fragments_.look_up(values_, natural_[kBatch % 2], engine_);
      if (kNext > 0 || more) {
        fragments_.template scale<kNext, (kNext > kReadingBatch)>(a_[kNext % 2][0], values_);
      }
)"},
    {"ScaledWithTheNextUnitsScales", "(kNext > kReadingBatch)", "false", kWrong},
    {"ScaledWithScalesNotKeptYet", "(kNext > kReadingBatch)", "(kNext >= kReadingBatch)", kNeverSet},
    {"ScaledWithTheUnitsBeforesScales", "(kNext > kReadingBatch)", "(kNext > kReadingBatch || kNext == 0)",
     kWrong},
    {"ScalesNotKept", "fragments_.keep_scales();\n", "", kNeverSet},
    {"ScalesKeptBehindTheNextCodes", "fragments_.keep_scales();\n      if (more) read_codes();",
     "if (more) read_codes();\n      fragments_.keep_scales();", kWrong},
    {"CodesAheadNotKept", "if constexpr (kExchanges) natural_[0] = ahead[0], natural_[1] = ahead[1];", "",
     kWrong},
    {"OneStepsCodesKeptTooLong", "natural_[0] = ahead[0], natural_[1] = ahead[1];", "natural_[0] = ahead[0];",
     kWrong},
    {"CodesExchangedOverThoseNotLookedUp",
     "exchange<kPair % FragmentsOfUnit::kPairs>(ahead);",
     "exchange<kPair % FragmentsOfUnit::kPairs>(natural_);",
     kWrong,
     {},
     "if constexpr (kExchanges) natural_[0] = ahead[0], natural_[1] = ahead[1];",
     ""},
    {"CodesReadBeforeTheLastAreExchanged", "kStaggered ? 3 : 1", "kStaggered ? 1 : 1", kWrong},
    {"CodesReadBehindTheFirstExchange", "kStaggered ? 3 : 1", "kStaggered ? 5 : 1", kWrong},
    {"CodesOfAUnitThatIsNotThere", "if (more) read_codes();", "read_codes();", kBytesMissing},
    {"CodesOfAUnitThatIsNotThereAtOnce", "if (more) read_codes();", "read_codes();", kBytesMissing, kAtOnce},
    {"FirstStepOfTheNextUnitNotScaled", "if (kNext > 0 || more) {", "if (kNext > 0) {", kWrong},
    {"FirstStepsOfTheNextUnitNotLookedUp", "if (kBatch + 2 < G::kBatches || more)",
     "if (kBatch + 2 < G::kBatches)", kWrong},
    {"FirstCodesOfTheNextUnitNotExchanged", "if (kPair < FragmentsOfUnit::kPairs || more)",
     "if (kPair < FragmentsOfUnit::kPairs)", kWrong},
    {"PairsOfABatchAlike", "make_pair<2 * kBatch + 1>(a[2], a[3]);", "make_pair<2 * kBatch>(a[2], a[3]);",
     kWrong, kAtOnce},

    // What the blocks of a cluster have of a tile.
    {"BlocksHaveTheSamePanels", "unit * Config::kClusterBlocks + cluster_rank();",
     "unit * Config::kClusterBlocks;", kWrong, kCluster},
    {"XOfTheOtherBlock", "panel_of_unit<Config>(at.unit) * layout::kRecordColumns + part",
     "(panel_of_unit<Config>(at.unit) ^ 1) * layout::kRecordColumns + part", kWrong, kCluster},
    {"UnitsOnePanelApart", "unit_ += G::kBlocks * kPanelBytes;", "unit_ += kPanelBytes;", kWrong, kCluster},
    {"WeightsBehindTheLastPanel", "behind ? unit_ - kPanelBytes : unit_;", "unit_;", kPastWeights, kCluster},
    {"PartitionsOfABlock", "return block_index() / G::kBlocks;", "return block_index();", kPastWeights,
     kCluster},
    {"NoWaitForTheCluster", "if constexpr (G::kBlocks > 1) wait_for_cluster();", "", kInitialisationRace,
     kCluster},
    {"NobodyArrivesAtTheCluster", "      arrive_at_cluster();\n", "",
     "waits for the cluster's barrier without having arrived at it", kCluster},
    {"ExchangeBarriersNotInitialised", "ExchangeBarriers<Config>(shared).initialize();", "", kNotInitialised,
     kCluster},
    {"EveryWarpInitialisesTheExchange", "warp == kExchangeWarp && thread_index()", "thread_index()",
     kSecondInitialisation, kCluster},
    {"OneWarpsBytesExpected", "initialize_barrier(come, G::kConsumers / layout::kLanes);",
     "initialize_barrier(come, 1);", kTooManyArrivals, kCluster},
    {"BothBlocksAwaitedAtTheFreePassage", "initialize_barrier(free, 1);", "initialize_barrier(free, 2);",
     kBytesMissing, kCluster},

    // Dependent launch.
    {"NobodyWaitsForTheLaunchBefore", kWaitForLaunch, "ActivationProducer", kNotDependent, kDependent},
    {"OnlyConsumersWaitForTheLaunchBefore", kWaitForLaunch, "ActivationProducer", kNotDependent, kDependent,
     kClaim,
     "claim_registers<kConsumerRegisters>();\n      wait_for_dependency<Config::kDependentLaunch>();"},
    {"TheOtherWarpWaitsForTheLaunchBefore", kWaitForLaunch, "ActivationProducer", kNotDependent, kDependent,
     "if (leads) weights.run();",
     "wait_for_dependency<Config::kDependentLaunch>();\n    if (leads) weights.run();"},

    // Registers.
    {"ProducersKeepTheirRegisters", "give_up_registers<kProducerRegisters>();", "", kNoRegisters, kFewRows},
    {"ProducersGiveUpTooFew", "<= 2 ? 40 : 32;", "<= 2 ? 48 : 32;", kNoRegisters, kFewRows},
    {"ConsumersClaimTooMany", "<= 2 ? 232 :", "<= 2 ? 240 :", kNoRegisters, kFewRows},
    {"ClaimOfNoMultipleOf8", "<= 2 ? 232 :", "<= 2 ? 228 :", "claims 228 registers; allowed: multiples of 8",
     kFewRows},
    {"ThreeWarpgroupsClaimTooMany", "kWarpgroups == 3 ? 160 :", "kWarpgroups == 3 ? 168 :", kNoRegisters,
     kThreeWarpgroups},
    {"ProducersOfThreeWarpgroupsGiveUpTooFew", "<= 2 ? 40 : 32;", "<= 2 ? 40 : 40;", kNoRegisters,
     kThreeWarpgroups},
    {"OneWarpGivesUp", "give_up_registers<kProducerRegisters>();",
     "if (warp == kWeightWarp) give_up_registers<kProducerRegisters>();", kNoRegisters, kFewRows},
    {"OneWarpClaims", kClaim, "if (warp % 4 == 0) claim_registers<kConsumerRegisters>();",
     "has ended, but its warpgroup claims 232 registers", kFewRows},
};

class ManyTokensMutations : public testing::TestWithParam<Mutation<ManyTokensExample>> {};

TEST_P(ManyTokensMutations, IsCaught) {
  if (has_turn(GetParam())) expect_caught(GetParam());
}

INSTANTIATE_TEST_SUITE_P(DeviceCode, ManyTokensMutations, testing::ValuesIn(kMutations),
                         name_of<ManyTokensExample>);

TEST(UnchangedSourcesForManyTokens, AreRightWhereMistakesAreCaught) { expect_right_unchanged(kMutations); }

}  // namespace
}  // namespace lutsmith::emulator_test
