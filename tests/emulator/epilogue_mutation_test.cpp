// Mistakes that somebody could make in what is made of sums before they are rounded: the emulator has to
// catch every one of them, in every family that has it in code of its own.

#include <gtest/gtest.h>

#include <cstdint>
#include <string_view>

#include "mutation.h"

namespace lutsmith::emulator_test {
namespace {

enum class Family { few_tokens, multistage, many_tokens };

/// A problem that fills no tile: two tiles of rows, of tokens too, and four units along K.
struct EpilogueExample {
  Family family = Family::few_tokens;
  bool residual = false;
  bool bias = false;
  Gate gated = Gate::none;
  std::int64_t n = 144;
  int group = 128;
  int partitions = 1;
  bool in_place = false;
  bool opposed = false;  ///< see oppose_sums()
  std::int64_t padding = 8;
  int cluster_blocks = 1;
  OutputType output = OutputType::same;

  friend bool operator==(const EpilogueExample&, const EpilogueExample&) = default;
};

KernelSpec spec_of(const EpilogueExample& example) {
  return {.format = {.bits = 4, .group = example.group, .n = example.n, .k = 392, .dtype = DataType::bf16},
          .m = 1,
          .target = must(Target::parse("sm_90a")),
          .residual = example.residual,
          .bias = example.bias,
          .gated = example.gated,
          .output = example.output};
}

Schedule schedule_of(const EpilogueExample& example) {
  switch (example.family) {
    case Family::few_tokens:
      return FewTokensSchedule{.tile_rows = 32, .tile_tokens = 8, .warps = 2};
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
                            .tile_tokens = 64,
                            .k_groups = 1,
                            .cluster_blocks = example.cluster_blocks,
                            .commit_steps = 4,
                            .activation_stages = 2,
                            .weight_stages = 1};
}

Problem problem_of(const EpilogueExample& example) {
  Problem problem = make_problem(spec_of(example), example.family == Family::few_tokens ? 11 : 75);
  if (example.opposed) oppose_sums(problem);
  return problem;
}

EmulationOptions options_of(const EpilogueExample& example) {
  return {.partitions = example.partitions,
          .output_padding = 8,
          .in_place = example.in_place,
          .residual_padding = example.padding};
}

constexpr EpilogueExample kFewAdded{.residual = true, .bias = true, .padding = 16};
constexpr EpilogueExample kFewCut{.bias = true, .partitions = 13};
constexpr EpilogueExample kFewGated{.gated = Gate::silu};
constexpr EpilogueExample kFewGatedChannels{.gated = Gate::silu, .group = kPerChannel};
constexpr EpilogueExample kGelu{.gated = Gate::gelu_tanh};
constexpr EpilogueExample kOpposed{.residual = true, .group = kPerChannel, .opposed = true};
constexpr EpilogueExample kWarpsAdded{
    .family = Family::multistage, .residual = true, .bias = true, .padding = 16};
constexpr EpilogueExample kWarpsRagged{
    .family = Family::multistage, .residual = true, .bias = true, .n = 140, .padding = 4};
constexpr EpilogueExample kWarpsGated{.family = Family::multistage, .gated = Gate::silu};
constexpr EpilogueExample kGroupsAdded{
    .family = Family::many_tokens, .residual = true, .bias = true, .padding = 16};
constexpr EpilogueExample kGroupsInPlace{
    .family = Family::many_tokens, .residual = true, .bias = true, .partitions = 4, .in_place = true};
constexpr EpilogueExample kGroupsRagged{
    .family = Family::many_tokens, .residual = true, .bias = true, .n = 140, .padding = 4};
constexpr EpilogueExample kGroupsGated{.family = Family::many_tokens, .gated = Gate::silu};
constexpr EpilogueExample kClusterGated{
    .family = Family::many_tokens, .gated = Gate::silu, .cluster_blocks = 2};

constexpr EpilogueExample kFewWide{
    .residual = true, .group = kPerChannel, .padding = 16, .output = OutputType::f32};
constexpr EpilogueExample kWarpsWide{.family = Family::multistage,
                                     .residual = true,
                                     .n = 140,
                                     .group = kPerChannel,
                                     .padding = 4,
                                     .output = OutputType::f32};
constexpr EpilogueExample kGroupsWide{.family = Family::many_tokens,
                                      .residual = true,
                                      .n = 140,
                                      .group = kPerChannel,
                                      .padding = 4,
                                      .output = OutputType::f32};
constexpr EpilogueExample kGroupsWideInPlace{.family = Family::many_tokens,
                                             .residual = true,
                                             .group = kPerChannel,
                                             .partitions = 4,
                                             .in_place = true,
                                             .output = OutputType::f32};
constexpr EpilogueExample kClusterWide{
    .family = Family::many_tokens, .cluster_blocks = 2, .output = OutputType::f32};

constexpr std::string_view kPastResidual = "bytes at byte .* of the residual, whose size is";
constexpr std::string_view kPastBias = "bytes at byte .* of the bias, whose size is";
constexpr std::string_view kReadLate = "reads element .* of the residual after it was written";

constexpr Mutation<EpilogueExample> kMutations[] = {
    // What all families have.
    {"SumRoundedBeforeItIsAdded", "kScales ? multiply_add(sum, scale, added)",
     "kScales ? to_float<Config::kElement>(from_float<Config::kElement>(sum * scale)) + added", kWrong,
     kOpposed},
    {"BiasForgotten", "!Config::kResidual ? bias : !Config::kBias ? residual : bias + residual",
     "!Config::kResidual ? bias : residual", kWrong, kFewAdded},
    {"ResidualForgotten", "!Config::kResidual ? bias : !Config::kBias ? residual : bias + residual",
     "!Config::kResidual ? bias : bias", kWrong, kFewAdded},
    {"ResidualOfRowsLikeThoseOfY", "token * launch.residual_stride", "token * launch.output_stride", kWrong,
     kFewAdded},
    {"GateOpensWhereItShuts", "exponent = -kLog2E * gate;", "exponent = kLog2E * gate;", kWrong, kFewGated},
    {"PowerOfE", "constexpr float kLog2E = 1.44269504f;", "constexpr float kLog2E = 1;", kWrong, kFewGated},
    {"CubeWithoutItsFactor", "-0.044715f * kLinear", "-kLinear", kWrong, kGelu},
    {"SiluForGelu", "if constexpr (Config::kGate == Gate::gelu_tanh)", "if constexpr (false)", kWrong, kGelu},
    {"GateAlone", "reciprocal(1 + power_of_two(exponent)) * up;", "reciprocal(1 + power_of_two(exponent));",
     kWrong, kFewGated},

    // Few tokens.
    {"FewBiasAddedToEveryPart",
     "          } else {\n            store_partial_sum(parts.own + element, sum);",
     "          } else {\n            store_partial_sum(parts.own + element, sum + "
     "bias_of<Config>(product.launch_, row));",
     kWrong, kFewCut},
    {"FewBiasOfTheFirstTile", "bias_of<Config>(launch, at.row)", "bias_of<Config>(launch, tile_row)", kWrong,
     kFewAdded},
    {"FewResidualOfTokensThatAreNotThere", "if (!at.exists) return added;", "", kPastResidual, kFewAdded},
    {"FewGateAndUpSwapped",
     "write_gated(product, row, token, gate, sum_of(element + kGateRows, row + kGateRows, token));",
     "write_gated(product, row, token, sum_of(element + kGateRows, row + kGateRows, token), gate);", kWrong,
     kFewGated},
    {"FewGatesWrittenWhereTheyAre", "at.row / layout::kRecordRows * kGateRows + at.row % kGateRows", "at.row",
     kWrittenTwice, kFewGated},
    {"FewScaleOfTheGateForBoth", "channel_scale(launch, at.row + kGateRows)", "channel_scale(launch, at.row)",
     kWrong, kFewGatedChannels},

    // Many tokens on any target.
    {"WarpsBiasOfTheOtherHalf", "target.biases[i / 4][half]", "target.biases[i / 4][1 - half]", kWrong,
     kWarpsAdded},
    {"WarpsBiasBehindTheLastRow", "G::kWholeRows ? row + 8 * i : min(row + 8 * i, Config::kN - 1)",
     "row + 8 * i", kPastBias, kWarpsAdded},
    {"WarpsResidualOfTheFirstOctet", "epilogue.load_piece(target, first + i)",
     "epilogue.load_piece(target, first)", kWrong, kWarpsAdded},
    {"WarpsResidualPiecesBehindTheLastRow", "launch_.residual_stride) && piece.whole()",
     "launch_.residual_stride)", kPastResidual, kWarpsRagged},
    {"WarpsResidualOfTheOtherToken", "first + i % 2 * kTokenBytes + i / 2 * 8 * 2",
     "first + (i + 1) % 2 * kTokenBytes + i / 2 * 8 * 2", kWrong, kWarpsAdded},
    {"WarpsNoBarrierBehindTheResidual", "warp_barrier();\n    const unsigned char* first",
     "const unsigned char* first", kUnwritten, kWarpsAdded},
    {"WarpsGateAndUpSwapped", "gated<Config>(sums[i / 2][i % 2], sums[i / 2][2 + i % 2])",
     "gated<Config>(sums[i / 2][2 + i % 2], sums[i / 2][i % 2])", kWrong, kWarpsGated},
    {"WarpsGatesInBothHalves", "kHalves = kGated<Config> ? 1 : 2;", "kHalves = 2;", kWrong, kWarpsGated},

    // Many tokens by warpgroups.
    {"GroupsBiasOfTheOtherHalf", "sums[c], scales_[c / 2], biases_[c / 2]",
     "sums[c], scales_[c / 2], biases_[1 - c / 2]", kWrong, kGroupsAdded},
    {"GroupsBiasBehindTheLastRow", "G::kWholeRows ? row + 8 * half : min(row + 8 * half, Config::kN - 1)",
     "row + 8 * half", kPastBias, kGroupsAdded},
    {"GroupsResidualOfTheSameTurnAgain", "load_residual_pieces(kNextTokens);", "load_residual_pieces(0);",
     "the numbers are wrong|of the residual after it was written", kGroupsAdded},
    {"GroupsResidualOfTheNextTile", "if (more) load_residual_pieces", "load_residual_pieces", kReadLate,
     kGroupsInPlace},
    {"GroupsResidualPiecesBehindTheLastRow", "launch_.residual_stride) && whole_piece()",
     "launch_.residual_stride)", kPastResidual, kGroupsRagged},
    {"GroupsNoBarrierBehindTheResidual",
     "load_residual_pieces(kNextTokens);\n        Barriers::meet_warpgroup(warpgroup());",
     "load_residual_pieces(kNextTokens);", "with no barrier between|nobody has written", kGroupsAdded},
    {"GroupsResidualOfTheOtherRows", "j % 2 * 2, added[j]", "j % 2 * 2, added[j ^ 1]", kWrong, kGroupsAdded},
    {"GroupsGateAndUpSwapped", "gated<Config>(finished_sum(sums, 0, 0), finished_sum(sums, 2, 0))",
     "gated<Config>(finished_sum(sums, 2, 0), finished_sum(sums, 0, 0))", kWrong, kGroupsGated},
    {"GroupsGatesOfAWarpInTwoPieces", "warp + thread / 8 % 2 * 4", "warp * 2 + thread / 8 % 2", kWrong,
     kGroupsGated},
    {"GroupsPiecesOfTokensThatAreNotStaged",
     "if (kTogether * 8 < kPassTokens && thread / kPieces >= kTogether * 8) token_ = launch_.tokens;", "",
     "with no barrier between", kClusterGated},

    // Y in fp32.
    {"WideSumsRounded", "store_output(to, value);",
     "store_output(to, to_float<Element::bf16>(from_float<Element::bf16>(value)));", kWrong, kFewWide},
    {"WideWarpsTokensSwapped", "target.token + octet * 8 + lane() % 4 * 2 + i % 2",
     "target.token + octet * 8 + lane() % 4 * 2 + 1 - i % 2", kWrong, kWarpsWide},
    {"WideWarpsHalvesSwapped", "half % kHalves * 2 + i % 2, channel",
     "2 - half % kHalves * 2 + i % 2, channel", kWrong, kWarpsWide},
    {"WideWarpsPastTheLastToken", "if (token < launch_.tokens && (G::kWholeRows || channel < kChannels)) {",
     "if (G::kWholeRows || channel < kChannels) {", kPastResidual, kWarpsWide},
    {"WideWarpsPastTheLastRow", "if (token < launch_.tokens && (G::kWholeRows || channel < kChannels)) {",
     "if (token < launch_.tokens) {", kWrittenTwice, kWarpsWide},
    {"WideGroupsPastTheLastRow", "(!G::kWholeRows && channel >= channels_of<Config>(Config::kN))", "false",
     kWrittenTwice, kGroupsWide},
    {"WideGroupsBothHalvesInOne", "channel_ + c / 2 * 8", "channel_", kWrittenTwice, kGroupsWide},
    {"WideGroupsResidualOfTheSameTurnAgain", "load_residual_of(kNextTokens);", "load_residual_of(0);", kWrong,
     kGroupsWide},
    {"WideGroupsResidualOfTheNextTile", "} else if (more) {", "} else {", kReadLate, kGroupsWideInPlace},
    {"WideClustersOctetsOfTheOtherBlock", "kNextTokens = kTogether * 8 * G::kBlocks",
     "kNextTokens = kTogether * 8", kWrittenTwice, kClusterWide},
};

class EpilogueMutations : public testing::TestWithParam<Mutation<EpilogueExample>> {};

TEST_P(EpilogueMutations, IsCaught) {
  if (has_turn(GetParam())) expect_caught(GetParam());
}

INSTANTIATE_TEST_SUITE_P(DeviceCode, EpilogueMutations, testing::ValuesIn(kMutations),
                         name_of<EpilogueExample>);

TEST(UnchangedEpilogues, AreRightWhereMistakesAreCaught) { expect_right_unchanged(kMutations); }

}  // namespace
}  // namespace lutsmith::emulator_test
