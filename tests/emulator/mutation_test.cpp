// Mistakes that somebody could make in the device code for few tokens, each made in an emitted source: the
// emulator has to catch every one of them, and in the way that is stated here.
//
// Two kinds of mistakes run right on the CPU, where instructions run in the order of the program and all
// memory is seen in one order: a release that a compiler may move ahead because it does not depend on the
// sums, and a fence_device() that is missing beside an atomic operation.

#include <gtest/gtest.h>

#include <cstdint>
#include <string_view>

#include "mutation.h"

namespace lutsmith::emulator_test {
namespace {

using enum WeightPath;

/// The smallest problem in which everything is ragged: 40 rows are three tiles of 16, 264 k three panels of
/// 128 and so two steps of two warps, the second of which has one warp too many.
struct Example {
  WeightPath weights = registers;
  int bits = 4;
  int group = 128;
  std::int64_t k = 264;
  int warps = 2;
  int tile_tokens = 8;
  int stages = 2;
  bool dependent_launch = false;
  std::int64_t m = 3;
  int partitions = 5;       ///< of the six steps, so that tiles are cut
  bool cancelling = false;  ///< see cancel()
  bool offsets = false;
  int segment_rows = 0;
  int tile_rows = 16;
  std::int64_t n = 40;

  friend bool operator==(const Example&, const Example&) = default;
};

KernelSpec spec_of(const Example& example) {
  return {.format = {.bits = example.bits,
                     .group = example.group,
                     .n = example.n,
                     .k = example.k,
                     .offsets = example.offsets},
          .m = 1,
          .target = must(Target::parse(example.weights == async_copy ? "sm_80" : "sm_90a")),
          .segment_rows = example.segment_rows};
}

FewTokensSchedule schedule_of(const Example& example) {
  return {.tile_rows = example.tile_rows,
          .tile_tokens = example.tile_tokens,
          .warps = example.warps,
          .weights = example.weights,
          .stages = example.stages,
          .dependent_launch = example.dependent_launch};
}

Problem problem_of(const Example& example) {
  Problem problem = make_problem(spec_of(example), example.m);
  if (example.cancelling) cancel(problem);
  return problem;
}

EmulationOptions options_of(const Example& example) { return {.partitions = example.partitions}; }

// Three steps of one warp, each a partition: every tile has three parts.
constexpr Example kThreeParts = {
    .group = kPerChannel, .k = 384, .warps = 1, .m = 1, .partitions = 9, .cancelling = true};
// One partition has all the work, so that rings wrap and buffers are used again.
constexpr Example kRegisters = {.partitions = 1};
constexpr Example kAsyncRing = {.weights = async_copy, .partitions = 1};
constexpr Example kBulkRing = {.weights = bulk_copy, .partitions = 1};

constexpr Example kOneToken = {.tile_tokens = 1, .m = 1};
// Three and four steps of one warp, whose activations take turns: three tiles in five partitions.
constexpr Example kTurningThree = {.warps = 1, .tile_tokens = 1, .m = 1};
constexpr Example kTurningFour = {.k = 512, .warps = 1, .tile_tokens = 1, .m = 1};
// A ring that holds more than two units, and all that its block has.
constexpr Example kPaced = {.weights = bulk_copy, .k = 512, .warps = 1, .stages = 4, .m = 1, .partitions = 3};
// Four multiprocessors, and work for two of them.
constexpr Example kIdle = {.dependent_launch = true, .partitions = 2};
constexpr Example kTwoGroups = {.group = 64};
constexpr Example kPlane = {.group = 256};
constexpr Example kChannel = {.group = kPerChannel};
constexpr Example kOffsets = {.offsets = true};
constexpr Example kTwoGroupsOfOffsets = {.group = 64, .offsets = true};
constexpr Example kChannelOffsets = {.group = kPerChannel, .offsets = true};
constexpr Example kOneTokenOffsets = {.group = 64, .tile_tokens = 1, .m = 1, .offsets = true};
constexpr Example kThreeBits = {.bits = 3};
// Tiles of two panels, of which the last has one.
constexpr Example kWide = {.tile_rows = 64, .n = 88};
constexpr Example kWideBulkRing = {.weights = bulk_copy, .tile_rows = 64, .n = 88};
constexpr Example kWidePlane = {.group = 256, .tile_rows = 64, .n = 88};
constexpr Example kWidePlaneBulkRing = {.weights = bulk_copy, .group = 256, .tile_rows = 64, .n = 88};
// A table for each of the three tiles, by one block and by several.
constexpr Example kSegments = {.partitions = 1, .segment_rows = 16};
constexpr Example kCutSegments = {.segment_rows = 16};
constexpr Example kDependent = {.dependent_launch = true};
// So short that a warp's units all fit its stream.
constexpr Example kAhead = {.tile_tokens = 1, .dependent_launch = true, .m = 1};
constexpr Example kAheadInTurn = {.weights = bulk_copy,
                                  .k = 512,
                                  .warps = 1,
                                  .tile_tokens = 1,
                                  .stages = 4,
                                  .dependent_launch = true,
                                  .m = 1,
                                  .partitions = 3};
constexpr Example kAheadBulk = {.weights = bulk_copy, .dependent_launch = true};
constexpr Example kAheadSegments = {.tile_tokens = 1, .dependent_launch = true, .m = 1, .segment_rows = 16};

// Pieces that several mutations change.
constexpr std::string_view kTakeThenRelease =
    R"(if (has_unit) accumulate(weights.take(parity), activations_of(parity), NothingLookedUp());
    weights.release(parity, consumed());)";
constexpr std::string_view kReleaseThenTake =
    R"(weights.release(parity, consumed());
    if (has_unit) accumulate(weights.take(parity), activations_of(parity), NothingLookedUp());)";
constexpr std::string_view kReleaseBeforeUse =
    R"(const auto unit = weights.take(parity);
    weights.release(parity, 0);
    if (has_unit) accumulate(unit, activations_of(parity), NothingLookedUp());)";
constexpr std::string_view kWait =
    "if constexpr (!kLooksAhead) wait_for_dependency<Config::kDependentLaunch>();";
constexpr std::string_view kWaitAhead =
    "if constexpr (kLooksAhead) wait_for_dependency<Config::kDependentLaunch>();";
constexpr std::string_view kRefill = "if (ahead_.at_end() || Stage::all_consumed(sum)) copy(stage_);";
constexpr std::string_view kRefillNext =
    "if (ahead_.at_end() || Stage::all_consumed(sum)) copy((stage_ + 1) % Config::kStages);";

constexpr Mutation<Example> kMutations[] = {
    // Fragments.
    {"ActivationFragmentOfTheNextColumns", "layout::kRecordColumns + lane % 4 * 8",
     "layout::kRecordColumns + (lane + 1) % 4 * 8", kWrong},
    {"ActivationFragmentOneElementOn", "layout::kRecordColumns + lane % 4 * 8",
     "layout::kRecordColumns + lane % 4 * 8 + 1", "of the activations, an address that is no multiple of 16"},
    {"ActivationFragmentOfTheNextToken", "Config::kTileTokens + octet * 8 + lane_ / 4;",
     "Config::kTileTokens + octet * 8 + lane_ / 4 + 1;", kWrong},
    {"ActivationWordOfTheOtherMma", ".x : x[octet][mma / 2].z", ".z : x[octet][mma / 2].x", kWrong},
    {"TokenInTheColumnOfTheNextMma", "return column == mma ? x.x : 0;", "return column == mma + 1 ? x.x : 0;",
     kWrong, kOneToken},
    {"TokenInEveryColumn", "return column == mma ? x.y : 0;", "return x.y;", kWrong, kOneToken},
    {"TokenOfTheOtherMma", "lane / 4 % 2 * 4)", "(lane / 4 + 1) % 2 * 4)", kWrong, kOneToken},
    {"TokenOneElementOn", "lane / 4 % 2 * 4)", "lane / 4 % 2 * 4 + 1)",
     "of the activations, an address that is no multiple of 8", kOneToken},
    {"TokenOfTheNextThirtyTwoColumns", "lane / 8 * 32", "(lane / 8 + 1) % 4 * 32", kWrong, kOneToken},
    {"TokenBeyondTheEndOfK", "kNoRaggedEnd || first_column_ + column < Config::kK;", "kNoRaggedEnd || true;",
     kPastActivations, kOneToken},
    {"ColumnsOfAnotherLaneNotAdded", "      sum += exchange_lanes(sum, 2);\n", "", kWrong, kOneToken},
    {"ColumnsOfTheSameLaneTwice", "sums[2 * half] + sums[2 * half + 1]", "sums[2 * half] + sums[2 * half]",
     kWrong, kOneToken},
    {"SumOfTheNextHalf", "rows + half * 8 + lane / 4", "rows + (1 - half) * 8 + lane / 4", kWrong, kOneToken},
    {"AccumulatorOfTheNextRow", "const int row = product.lane_ / 4 + c / 2 * 8;",
     "const int row = product.lane_ / 4 + c / 2 * 8 + 1;", kUnwritten},
    {"AccumulatorRowAndTokenSwapped", "lane_ % 4 * 2 + c % 2", "lane_ % 4 * 2 + (c + 1) % 2", kWrong},
    {"TableEntryOfTheSwappedPair", "shared + (odd * pair_table::kOddStride + even)",
     "shared + (even * pair_table::kOddStride + odd)", kWrong},
    {"ActivationsOfTheOtherStep", "(at_.step ^ parity ^ i) & 1", "(parity ^ i) & 1", kWrong},
    {"ActivationsThatDoNotTurn", "if constexpr (kTurn) turn_activations();", "", kWrong, kTurningFour},
    {"ActivationsThatTurnBackwards", "activations_[i] = activations_[i + 1];",
     "activations_[kActivationSteps - 1 - i] = activations_[kActivationSteps - 2 - i];", kWrong,
     kTurningFour},
    {"ActivationsThatAreLostAtTheEndOfATile",
     "activations_[kActivationSteps - 1] = last;",
     "",
     kWrong,
     {.k = 512, .warps = 1, .tile_tokens = 1, .m = 1, .partitions = 1}},
    {"TurningActivationsFromTheTilesBegin", "int step = at_.step;", "int step = 0;", kWrong, kTurningThree},
    {"TableEntryOfTheNextEvenCode", "? word >> 16 : word & 0xffffu;", "? word & 0xffffu : word >> 16;",
     kWrong},
    {"TableEntriesOfTheSecondWord", "(lane & 2 * kVectors) != 0 ? second : first;",
     "(lane & 2 * kVectors) != 0 ? first : second;", kWrong},
    {"TableWithoutItsLastOddCodes", "odd < kLevels; odd += threads / layout::kLanes",
     "odd + 1 < kLevels; odd += threads / layout::kLanes", kUnwritten},

    // Barriers.
    {"NoBarrierBehindTheTable", "if (first) block_barrier();", "", kUnwritten},
    {"NoBarrierBehindTheSums", "block_barrier();\n    typename K::Parts parts;", "typename K::Parts parts;",
     kUnwritten},
    {"NoBarrierBeforeTheArrival", "block_barrier();\n    if (thread_index() == 0) count_part",
     "if (thread_index() == 0) count_part", kUnordered},
    {"NoBarrierBehindTheArrival", "block_barrier();\n    fence_device();\n", "fence_device();\n", kUnwritten},
    {"OneReductionBuffer", "product.buffer_ ^= 1;", "", kEarlyWrite, kRegisters},
    {"BarrierOfSomeWarps", "if (first) block_barrier();", "if (first && warp_ == 0) block_barrier();",
     kReadRace},
    {"BarrierInEachBranch", "block_barrier();\n    typename K::Parts parts;",
     "if (product.warp_ == 0)\n block_barrier();\n else\n block_barrier();\n typename K::Parts parts;",
     kOtherBarrier},
    {"BarrierOfSomeLanes", "if (first) block_barrier();", "if (first || lane_ == 0) block_barrier();",
     kBarrierMissing, kRegisters},

    // Scales.
    {"ScaleOfTheNextGroup", "load_scales(first_scales + record * kNextScales + group * G::kGroupBytes",
     "load_scales(first_scales + record * kNextScales + (group ^ 1) * G::kGroupBytes", kWrong, kTwoGroups},
    {"ScaleOfTheNextRow", "first_scales += lane / 4 * 4;", "first_scales += (lane / 4 ^ 1) * 4;", kWrong},
    {"ScaleOfTheOtherHalf", "multiply_add(scale[c / 2]", "multiply_add(scale[1 - c / 2]", kWrong},
    {"PlaneScaleOfTheNextGroup", ": column_panel / (group", ": (column_panel + 1) / (group", kWrong, kPlane},
    {"PlaneScaleOfTheOtherRecord", "record_row % layout::kRecordsPerPanel) *",
     "1 - record_row % layout::kRecordsPerPanel) *", kWrong, kPlane},
    {"ChannelScaleOfTheNextRow", "scale_index(row % layout::kRecordRows)",
     "scale_index((row + 1) % layout::kRecordRows)", kWrong, kChannel},
    {"ScaleOfTheLowHalfWithoutItsSign", "low_to_float<Config::kElement>(unit.scales[record][scale_group])",
     "low_to_float<Config::kElement>(unit.scales[record][scale_group] & 0x7fff7fffu)", kWrong},
    {"ScaleOfTheHighHalfWithoutItsSign", "high_to_float<Config::kElement>(unit.scales[record][scale_group])",
     "high_to_float<Config::kElement>(unit.scales[record][scale_group] & 0x7fff7fffu)", kWrong},
    {"ChannelScaleWithoutItsSign", "to_float<Config::kElement>(load_scale(launch.weights + offset))",
     "to_float<Config::kElement>(load_scale(launch.weights + offset) & 0x7fffu)", kWrong, kChannel},

    // Offsets.
    {"ScaleForAnOffset", "first_scales + layout::kOffsetBehindScale +", "first_scales +", kWrong, kOffsets},
    {"OffsetOfTheOtherHalf", "multiply_add(offset[c / 2]", "multiply_add(offset[1 - c / 2]", kWrong,
     kOffsets},
    {"OffsetOfTheLowHalfWithoutItsSign", "low_to_float<Config::kElement>(unit.offsets[record][scale_group])",
     "low_to_float<Config::kElement>(unit.offsets[record][scale_group] & 0x7fff7fffu)", kWrong, kOffsets},
    {"OffsetOfTheFirstGroup", "high_to_float<Config::kElement>(unit.offsets[record][scale_group])",
     "high_to_float<Config::kElement>(unit.offsets[record][0])", kWrong, kTwoGroupsOfOffsets},
    {"OffsetWithoutX", "multiply_add(offset[c / 2], activation_sums.of(octet, c), sum)",
     "multiply_add(offset[c / 2], 1.0f, sum)", kWrong, kOffsets},
    {"SumOfXOfTheNextToken", "return sums_[octet][c];", "return sums_[octet][c ^ 1];", kWrong, kOffsets},
    {"SumOfXOfOneWordTwice", "activations_.b1(octet, mma, lane_ / 4));",
     "activations_.b0(octet, mma, lane_ / 4));", kWrong, kOffsets},
    {"SumOfXOfTheOtherGroup", "activation_sums.begin(group);", "activation_sums.begin(group ^ 1);", kWrong,
     kTwoGroupsOfOffsets},
    {"SumOfXNotBegunAnew", "for (int c = 0; c < 4; ++c) sums_[octet][c] = 0;",
     "for (int c = 0; c < 4; ++c) sums_[octet][c] = group == 0 ? 0 : sums_[octet][c];", kWrong,
     kTwoGroupsOfOffsets},
    {"SumOfXOfOneColumn", "present_ ? columns_[c % 2] : 0;", "present_ ? columns_[0] : 0;", kWrong,
     kOneTokenOffsets},
    {"SumOfXOfTheColumnsOfAllGroups", "present_ = lane_ % 4 * 2 / kColumns == group;", "present_ = true;",
     kWrong, kOneTokenOffsets},
    {"ChannelValuesOfTheOtherHalf", "static_cast<long long>(record_row) * group_bytes()",
     "static_cast<long long>(record_row ^ 1) * group_bytes()", kWrong, kChannelOffsets},

    // Tiles of two panels.
    {"FirstPanelTwice", "StreamedWeights, 1>(ahead_.unit() + ahead_.to_second_panel(),",
     "StreamedWeights, 1>(ahead_.unit(),", kWrong, kWide},
    {"ScalesOfTheFirstPanelTwice", "first_scales() + to_scales, lane_);", "first_scales(), lane_);", kWrong,
     kWide},
    {"PlaneScalesOfTheFirstPanelTwice", "first_scales() + to_scales, lane_);", "first_scales(), lane_);",
     kWrong, kWidePlane},
    {"RecordsOfTheFirstPanelReplaced", "constexpr int kFirst = kPanel * kPanelRecords;",
     "constexpr int kFirst = 0;", kNeverSet, kWide},
    {"SecondPanelPastTheMatrix",
     "return has_second_panel() ? packed_layout_of<Config>().row_panel_bytes() : 0;",
     "return packed_layout_of<Config>().row_panel_bytes();", kPastWeights, kWidePlane},
    {"FirstPanelCopiedTwice", "return panel == 0 ? at.unit() : at.unit() + at.to_second_panel();",
     "return at.unit();", kWrong, kWideBulkRing},
    {"ScalesOfTheFirstPanelRead", "constexpr int kNextScales = kPlaneScales ? kPlaneBytes : kPanelBytes;",
     "constexpr int kNextScales = 0;", kWrong, kWideBulkRing},
    {"PlaneScalesOfTheFirstPanelCopiedTwice",
     "return panel == 0 ? at.plane_scales() : at.plane_scales() + at.to_second_plane_scales();",
     "return at.plane_scales();", kWrong, kWidePlaneBulkRing},

    // Tables of segments.
    {"TableOfTheFirstTileForAll", "if constexpr (Config::kSegments) turn_table();", "", kWrong, kSegments},
    {"TableOfTheNextSegment", "parameter.table + segment * kLength",
     "parameter.table + (segment + 1) * kLength", kWrong, kSegments},
    {"TableOfTheFirstSegmentAtTheStart",
     "fill_with(shared, parameter, segment_of(parameter, row_tile), thread, threads);",
     "fill_with(shared, parameter, 0, thread, threads);", kWrong, kCutSegments},
    {"SegmentOneRowLate", "row >= parameter.segment_ends[i]", "row > parameter.segment_ends[i]", kWrong,
     kSegments},
    {"SegmentsByTiles", "const int row = row_tile * Config::kTileRows;", "const int row = row_tile;", kWrong,
     kSegments},
    {"TableOfTheFirstSegmentAheadOfTheWait",
     "Engine::fill_first(shared, parameter, start.row_tile, thread_index(), G::kThreads);",
     "Engine::fill_first(shared, parameter, 0, thread_index(), G::kThreads);", kWrong, kAheadSegments},
    {"TableTurnedToButNotFilled", "    look_up_.refill(thread_index(), G::kThreads);\n", "", kWrong,
     kSegments},
    {"TableOfSomeThreads", "look_up_.refill(thread_index(), G::kThreads);",
     "if (warp_ == 0) look_up_.refill(thread_index(), G::kThreads);", kWrong, kSegments},
    {"NoBarrierBehindTheTurnedTable", "look_up_.refill(thread_index(), G::kThreads);\n    block_barrier();",
     "look_up_.refill(thread_index(), G::kThreads);", kEitherRace, kSegments},
    {"TableTurnedBeforeTheSumsHaveMet", "multiply_steps(weights, steps - done, reaches_end, parity);",
     R"({
        multiply_steps(weights, steps - done, reaches_end, parity);
        if (look_up_.turn_to(at_.row_tile + 1)) look_up_.refill(thread_index(), G::kThreads);
      })",
     kEarlyWrite, kSegments},

    // Stream-K.
    {"OwnPartAddedFirst",
     R"(float sum = load_partial_sum(parts.first_slot + element);
    const float* next = parts.next_slots + element;
#pragma unroll 1
    for (int part = 1; part < parts.count; ++part) {
      sum += load_partial_sum(next);)",
     R"(float sum = load_partial_sum(parts.own + element);
    if (parts.own != parts.first_slot) sum += load_partial_sum(parts.first_slot + element);
    const float* next = parts.next_slots + element;
    for (int part = 1; part < parts.count; ++part) {
      if (next != parts.own + element) sum += load_partial_sum(next);)",
     kOrder, kThreeParts},
    {"OwnPartAddedLast",
     R"(float sum = load_partial_sum(parts.first_slot + element);
    const float* next = parts.next_slots + element;
#pragma unroll 1
    for (int part = 1; part < parts.count; ++part) {
      sum += load_partial_sum(next);
      next += 2 * kSlotFloats;
    }
    return sum;)",
     R"(float sum = parts.own == parts.first_slot ? 0 : load_partial_sum(parts.first_slot + element);
    const float* next = parts.next_slots + element;
    for (int part = 1; part < parts.count; ++part) {
      if (next != parts.own + element) sum += load_partial_sum(next);
      next += 2 * kSlotFloats;
    }
    return sum + load_partial_sum(parts.own + element);)",
     kOrder, kThreeParts},
    {"OneArrivalTooFew", "(parts.count - 1)", "(parts.count - 2)", kEarlySum, kThreeParts},
    {"OneArrivalTooMany", "(parts.count - 1)", "(parts.count)", kCounterLeft},
    {"CounterNotReset", "if (last) reset_arrivals(counter);", "", kCounterLeft},
    {"OneSlotForBothEndsOfAPartition",
     "< tile_begin ? kSlotFloats : 0;",
     "< tile_begin ? 0 : 0;",
     kUnordered,
     {.warps = 1, .partitions = 4}},

    // Masks of what is ragged.
    {"NoMaskOfK", "(G::kNoRaggedEnd || first_column_ + offset < Config::kK)", "true", kPastActivations},
    {"MaskOfKOneTooFar", "first_column_ + offset < Config::kK", "first_column_ + offset <= Config::kK",
     kPastActivations},
    {"NoMaskOfRows", " && (G::kWholeRows || row < Config::kN)", "", kPastOutput, {.m = 1}},
    {"NoMaskOfTokensRead", "present_[octet] = token < launch_.tokens;", "present_[octet] = true;",
     kPastActivations},
    {"NoMaskOfTokensWritten", "token < product.launch_.tokens && ", "", kPastOutput},
    {"NoMaskOfUnitsFetched", "(G::kWholeSteps || step * Config::kWarps + warp < G::kColumnPanels)", "true",
     kPastWeights},
    {"NoMaskOfUnitsMultiplied", "G::kWholeSteps || !last_of_tile || warp_ < kLastStepWarps", "true",
     kUnwritten, kBulkRing},
    {"FetchesBehindTheLastStep",
     "return steps_left > 0 && (",
     "return (",
     kEarlyWrite,  // nobody votes on copies behind the last step
     {.weights = async_copy}},

    // Bit slices.
    {"SlicesSwapped", "return joined;", "return (joined & 0x33333333u) << 1 | (joined & 0x44444444u) >> 2;",
     kWrong, kThreeBits},
    {"TwoBitSliceOfTheOtherMma", ">> mma % 2 * 2 &", ">> (mma + 1) % 2 * 2 &", kWrong, {.bits = 2}},
    {"OneBitSliceOfTheNextLane", "layout::kLanes * 16 - lane * 8", "layout::kLanes * 16 - (lane ^ 1) * 8",
     kWrong, kThreeBits},
    {"OneBitSliceOfTheNextMma", "Config::kBits - 1 - mma % 4;", "Config::kBits - 1 - (mma + 1) % 4;", kWrong,
     kThreeBits},

    // The weight streams.
    {"RegistersRefilledBeforeTheirUse", kTakeThenRelease, kReleaseThenTake, kWrong, kRegisters},
    {"AsyncRingRefilledBeforeItsUse", kTakeThenRelease, kReleaseThenTake, kUnderWay, kAsyncRing},
    {"BulkRingRefilledBeforeItsUse", kTakeThenRelease, kReleaseThenTake, kUnwritten, kBulkRing},
    {"RegistersRefilledUnderTheirUse",
     "return kRefillsEarly ? in_use_ : units_[parity];",
     "return units_[parity];",
     kWrong,
     {.stages = 3, .partitions = 1}},
    {"AsyncRingRefilledWhenItsLoadsAreIssued",
     kTakeThenRelease,
     kReleaseBeforeUse,
     kUnused,
     {.weights = async_copy, .k = 256, .partitions = 1}},
    {"BulkRingRefilledWhenItsLoadsAreIssued",
     kTakeThenRelease,
     kReleaseBeforeUse,
     kUnused,
     {.weights = bulk_copy, .k = 256, .partitions = 1}},
    {"AsyncRingStageRefilledBeforeAllHaveRead", kRefill, "copy(stage_);", kEarlyWrite, kAsyncRing},
    {"BulkRingStageRefilledBeforeAllHaveRead", kRefill, "copy(stage_);", kEarlyWrite, kBulkRing},
    {"AsyncRingNextStageRefilled", kRefill, kRefillNext, kUnderWay, kAsyncRing},
    {"BulkRingNextStageRefilled", kRefill, kRefillNext,
     "arrives at an mbarrier more often than a phase expects", kBulkRing},
    {"AsyncRingVoteWithoutBarrier", "warp_barrier();  // orders the reads", "// orders the reads",
     kEarlyWrite, kAsyncRing},
    {"BulkRingVoteWithoutBarrier", "warp_barrier();  // orders the reads", "// orders the reads", kEarlyWrite,
     kBulkRing},
    {"AsyncRingNoBarrierBeforeReading", "warp_barrier();  // a lane reads", "// a lane reads", kUnderWay,
     kAsyncRing},
    {"AsyncRingOneGroupTooManyPending", "wait_copies<Config::kStages - 1>();",
     "wait_copies<Config::kStages>();", kUnderWay, kAsyncRing},
    {"AsyncRingCommitOfEveryUnit", "commit_copies();  // for every step",
     "if (ahead_.has_unit()) commit_copies();  // for every unit", kUnderWay, kAsyncRing},
    {"BulkRingParityNotFlipped", "parity_ ^= 1u;", "", kWaitedBefore, kBulkRing},
    {"BulkRingParityFlippedAtTheStart", "unsigned int parity_ = 0;", "unsigned int parity_ = 1;",
     kWaitedBefore, kBulkRing},
    {"BulkRingNoFenceOfTheBarriers", "fence_barrier_initialization();\n    }", "}",
     "gives an mbarrier to a bulk copy before the fence of its initialisation", kBulkRing},
    {"BulkRingPhaseOfEveryUnit",
     "arrive_expecting(barrier, 0);",
     "",
     kWaitedBefore,
     {.weights = bulk_copy, .stages = 3, .partitions = 1}},
    {"BulkCopyTooShort", "Stage::kPanelBytes, barrier);", "Stage::kPanelBytes - 16, barrier);", kBytesMissing,
     kBulkRing},
    {"BulkCopyTooLong", "Stage::kPanelBytes, barrier);", "Stage::kPanelBytes + 16, barrier);", kUnderWay,
     kBulkRing},
    {"BulkCopyOfNoMultipleOf16", "Stage::kPanelBytes, barrier);", "Stage::kPanelBytes - 8, barrier);",
     "copies .* bytes in bulk, which is no multiple of 16", kBulkRing},
    {"BulkCopyFromTheMiddleOf16", "Stage::panel_of(ahead_, panel),", "Stage::panel_of(ahead_, panel) + 8,",
     "of the weights, an address that is no multiple of 16", kBulkRing},
    {"BulkCopyToTheMiddleOf16", "copy_bulk(place,", "copy_bulk(place + 8,",
     "shared byte .*, which is no multiple of 16", kBulkRing},
    {"BulkCopyExpectsTooLittle", "arrive_expecting(barrier, Stage::kBytes);",
     "arrive_expecting(barrier, Stage::kBytes - 16);",
     "phase 0 of an mbarrier gets 16 bytes more than it expects", kBulkRing},
    {"BulkCopyOfScalesNotExpected",
     "arrive_expecting(barrier, Stage::kBytes);",
     "arrive_expecting(barrier, Stage::kUnitBytes);",
     kUnderWay,
     {.weights = bulk_copy, .group = 256, .partitions = 1}},

    {"MostOfTheRingNeverPrimed", "weights.continue_priming();\n", "", kBytesMissing, kPaced},
    {"SecondStageOfTheRingPrimedTwice",
     "for (int stage = kFirstStages; stage < Config::kStages; ++stage) copy",
     "for (int stage = kFirstStages - 1; stage < Config::kStages; ++stage) copy", kTooManyArrivals, kPaced},

    // Dependent launch.
    {"BlockWithoutWorkTakesSome", "const bool idle = block_index() >= launch.sharing;",
     "const bool idle = false;", kPastWeights, kIdle},
    {"NoWaitForTheLaunchBefore", kWait, "", kNotDependent, kDependent},
    {"NoWaitForTheLaunchBeforeBehindLookUps", kWaitAhead, "", kNotDependent, kAhead},
    {"WaitsForTheLaunchBeforeTooLate",
     R"(if constexpr (!kLooksAhead) wait_for_dependency<Config::kDependentLaunch>();

    FewTokens(parameter, shared, look_up, start, warp, lane).multiply(weights);)",
     R"(FewTokens(parameter, shared, look_up, start, warp, lane).multiply(weights);
    wait_for_dependency<Config::kDependentLaunch>();)",
     kNotDependent, kDependent},
    {"OneThreadWaitsForTheLaunchBefore", kWait,
     "if (thread_index() == 0) wait_for_dependency<Config::kDependentLaunch>();", kNotDependent, kDependent},

    // The first unit, looked up before the wait.
    {"LookedUpInATableThatIsNotFilled", "block_barrier();  // the engine is filled\n      look_up_ahead",
     "look_up_ahead", kUnwritten, kAhead},
    {"FragmentsOfTheOtherMma", "ahead.a[record][mma][i]", "ahead.a[record][mma ^ 1][i]", kWrong, kAhead},
    {"FirstUnitTwice", "parity = done = 1;", "parity = 1;", kNeverSet, kAhead},
    {"SecondUnitWithTheFirstOnesX", "weights.release(0, consumed());\n    go_on(0);",
     "weights.release(0, consumed());", kWrong, kAheadInTurn},
    {"FirstUnitKeepsItsStage", "weights.release(0, consumed());\n    go_on(0);", "go_on(0);", kWaitedBefore,
     kAheadBulk},
    {"XOfTheFirstUnitBeforeTheWait", "look_up_ahead(ahead, weights);\n    }",
     "look_up_ahead(ahead, weights);\n      if constexpr (kResident) load_all_activations(0);\n    }",
     kNotDependent, kAhead},
};

class Mutations : public testing::TestWithParam<Mutation<Example>> {};

TEST_P(Mutations, IsCaught) {
  if (has_turn(GetParam())) expect_caught(GetParam());
}

INSTANTIATE_TEST_SUITE_P(DeviceCode, Mutations, testing::ValuesIn(kMutations), name_of<Example>);

TEST(UnchangedSources, AreRightWhereMistakesAreCaught) { expect_right_unchanged(kMutations); }

}  // namespace
}  // namespace lutsmith::emulator_test
