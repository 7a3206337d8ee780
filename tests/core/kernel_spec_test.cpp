#include "lutsmith/kernel_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace lutsmith {
namespace {

using testing::AllOf;
using testing::HasSubstr;

KernelSpec valid_spec() {
  return {.format = {.n = 4096, .k = 4096}, .m = 1, .target = *Target::parse("sm_90a")};
}

struct BadSpec {
  std::string name;
  std::function<void(KernelSpec&)> spoil;
  std::string field;
  std::string given;
  std::string allowed;
};

void PrintTo(const BadSpec& bad, std::ostream* out) { *out << bad.name; }

class BadSpecTest : public testing::TestWithParam<BadSpec> {};

TEST_P(BadSpecTest, IsRefusedNamingFieldValueAndWhatIsAllowed) {
  KernelSpec spec = valid_spec();
  GetParam().spoil(spec);
  const Result<void> result = validate(spec);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(result.error().message, AllOf(testing::StartsWith(GetParam().field + ": "),
                                            HasSubstr(GetParam().given), HasSubstr(GetParam().allowed)));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadSpecTest,
    testing::Values(
        BadSpec{"bits_0", [](KernelSpec& s) { s.format.bits = 0; }, "bits", "0", "1, 2, 3, 4"},
        BadSpec{"bits_9", [](KernelSpec& s) { s.format.bits = 9; }, "bits", "9", "1, 2, 3, 4"},
        BadSpec{"bits_negative", [](KernelSpec& s) { s.format.bits = -4; }, "bits", "-4", "1, 2, 3, 4"},
        BadSpec{"group_48", [](KernelSpec& s) { s.format.group = 48; }, "group", "48",
                "32, 64, 128, 256, channel"},
        BadSpec{"group_negative", [](KernelSpec& s) { s.format.group = -1; }, "group", "-1", "channel"},
        BadSpec{"k_100", [](KernelSpec& s) { s.format.k = 100; }, "k", "100", "multiples of 8"},
        BadSpec{"k_0", [](KernelSpec& s) { s.format.k = 0; }, "k", "0", "multiples of 8"},
        BadSpec{"k_huge", [](KernelSpec& s) { s.format.k = std::int64_t{1} << 40; }, "k", "1099511627776",
                "16777216"},
        BadSpec{"n_0", [](KernelSpec& s) { s.format.n = 0; }, "n", "0", "1 to 16777216"},
        BadSpec{"n_negative", [](KernelSpec& s) { s.format.n = -32; }, "n", "-32", "1 to 16777216"},
        BadSpec{"gated", [](KernelSpec& s) { s.gated = static_cast<Gate>(3); }, "gated", "3",
                "none, silu, gelu_tanh"},
        BadSpec{"gated_and_bias", [](KernelSpec& s) { s.gated = Gate::silu, s.bias = true; }, "gated",
                "silu is not allowed beside a bias", "gated alone"},
        BadSpec{"gated_rows", [](KernelSpec& s) { s.gated = Gate::gelu_tanh, s.format.n = 4088; }, "n",
                "4088", "multiples of 16"},
        BadSpec{"segment_rows", [](KernelSpec& s) { s.segment_rows = 48; }, "segment_rows", "48",
                "0 (one table for all rows), 16, 32, 64, 128, 256"},
        BadSpec{"segments_of_pairs",
                [](KernelSpec& s) { s.segment_rows = 64, s.format.table = TableKind::pair; }, "segment_rows",
                "64 is not allowed with a table of pairs", "scalar tables"},
        BadSpec{"segments_of_row_tables",
                [](KernelSpec& s) { s.segment_rows = 64, s.format.table = TableKind::row; }, "segment_rows",
                "64 is not allowed with a table for each row", "scalar tables"},
        BadSpec{"segments_of_gates", [](KernelSpec& s) { s.segment_rows = 64, s.gated = Gate::silu; },
                "segment_rows", "64 is not allowed where rows are gated", "one table for both"},
        BadSpec{"batch_invariant_segments",
                [](KernelSpec& s) { s.segment_rows = 64, s.batch_invariant = true; }, "segment_rows",
                "64 is not allowed with batch_invariant", "128, 256"},
        BadSpec{"m_0", [](KernelSpec& s) { s.m = 0; }, "m", "0", "1 to 16777216"},
        BadSpec{"dtype", [](KernelSpec& s) { s.format.dtype = static_cast<DataType>(7); }, "dtype", "7",
                "f16, bf16"},
        BadSpec{"table", [](KernelSpec& s) { s.format.table = static_cast<TableKind>(5); }, "table", "5",
                "scalar, pair, row"}),
    [](const testing::TestParamInfo<BadSpec>& bad) { return bad.param.name; });

TEST(SpecTest, TokensAndTargetThatNobodyNamedAreRefusedNotGuessed) {
  KernelSpec spec = valid_spec();
  spec.m = KernelSpec{}.m;
  ASSERT_FALSE(validate(spec).has_value());
  EXPECT_THAT(validate(spec).error().message, HasSubstr("m: 0"));
  spec = valid_spec();
  spec.target = {};
  ASSERT_FALSE(validate(spec).has_value());
  EXPECT_THAT(validate(spec).error().message, AllOf(HasSubstr("target"), HasSubstr("sm_90a")));
  EXPECT_FALSE(Target::parse("native").has_value());
}

TEST(SpecTest, EveryAllowedCombinationIsAccepted) {
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      for (const std::int64_t k : {8, 40, 1032, 4096}) {
        KernelSpec spec{.format = {.bits = bits, .group = group, .n = 1, .k = k},
                        .m = 1000,
                        .target = *Target::parse("sm_90a")};
        EXPECT_TRUE(validate(spec).has_value()) << describe(spec);
      }
    }
  }
}

TEST(SpecTest, NamesAndValuesAreInversesOfEachOther) {
  for (const DataType type : {DataType::f16, DataType::bf16}) {
    EXPECT_EQ(parse_data_type(to_string(type)), type);
  }
  for (const TableKind kind : {TableKind::scalar, TableKind::pair, TableKind::row}) {
    EXPECT_EQ(parse_table_kind(to_string(kind)), kind);
  }
  for (const int group : {32, 64, 128, 256, kPerChannel}) EXPECT_EQ(parse_group(group_name(group)), group);
  for (const TargetTraits& traits : Target::all()) {
    EXPECT_EQ(Target::parse(traits.name)->name(), traits.name);
    EXPECT_EQ(Target::from_compute_capability(traits.major, traits.minor)->name(), traits.name);
  }
}

TEST(SpecTest, UnknownNamesAreRefusedWithTheKnownOnes) {
  EXPECT_THAT(parse_data_type("f32").error().message, AllOf(HasSubstr("f32"), HasSubstr("f16, bf16")));
  EXPECT_THAT(parse_table_kind("triple").error().message,
              AllOf(HasSubstr("triple"), HasSubstr("scalar, pair, row")));
  for (const char* name : {"", "0", "channels", "64x", "99999999999999999999"}) {
    ASSERT_FALSE(parse_group(name).has_value()) << name;
    EXPECT_THAT(parse_group(name).error().message, HasSubstr("32, 64, 128, 256, channel"));
  }
}

TEST(TargetTest, ALostArchitectureSuffixIsNotTheSameTarget) {
  const Result<Target> target = Target::parse("sm_90");
  ASSERT_FALSE(target.has_value());
  EXPECT_THAT(target.error().message, AllOf(HasSubstr("'sm_90'"), HasSubstr("sm_90a")));
}

TEST(TargetTest, AnUnknownGpuIsReportedWithItsComputeCapability) {
  const Result<Target> target = Target::from_compute_capability(7, 5);
  ASSERT_FALSE(target.has_value());
  EXPECT_EQ(target.error().code, ErrorCode::unsupported);
  EXPECT_THAT(target.error().message, AllOf(HasSubstr("7.5"), HasSubstr("sm_80")));
}

TEST(SpecTest, EveryNumberOfTokensHasABucketThatHoldsItButTheLast) {
  for (std::int64_t m = 1; m <= 5000; ++m) {
    const std::int64_t bucket = token_bucket(m);
    EXPECT_THAT(kTokenBuckets, testing::Contains(bucket)) << m;
    EXPECT_TRUE(bucket >= m || bucket == kTokenBuckets.back()) << m;
    for (const std::int64_t smaller : kTokenBuckets) EXPECT_TRUE(smaller >= bucket || smaller < m) << m;
  }
  EXPECT_EQ(token_bucket(1 << 24), 4096);
}

TEST(SpecTest, NumbersOfTokensThatAreNotAllowedAreNotHiddenInABucket) {
  for (const std::int64_t m : {std::int64_t{0}, std::int64_t{-5}, std::int64_t{1} << 40}) {
    EXPECT_EQ(token_bucket(m), m);
  }
}

TEST(SpecTest, TablesHaveOneValueACodeOrTwoAPairCode) {
  EXPECT_EQ(table_length(2, TableKind::scalar), 4);
  EXPECT_EQ(table_length(4, TableKind::scalar), 16);
  EXPECT_EQ(table_length(2, TableKind::pair), 32);
  EXPECT_EQ(table_length(4, TableKind::pair), 512);
  EXPECT_EQ(table_length(4, TableKind::row), 16);
}

TEST(SpecTest, ALaunchBringsATableWhereRowsHaveNone) {
  WeightFormat format{.bits = 3, .n = 40, .k = 128};
  EXPECT_EQ(table_values(format), 8U);
  EXPECT_EQ(launched_table_length(format), 8);
  format.table = TableKind::row;
  EXPECT_EQ(table_values(format), 40U * 8);
  EXPECT_EQ(launched_table_length(format), 0);
}

TEST(KernelSpecTest, WhatIsMadeOfTheSumsIsDescribedOnlyWhereThereIsSomething) {
  KernelSpec spec = valid_spec();
  const std::string plain = describe(spec);
  EXPECT_THAT(plain, testing::EndsWith(" sm_90a"));
  spec.residual = spec.bias = true;
  EXPECT_EQ(describe(spec), plain + " residual bias");
  EXPECT_EQ(without_epilogue(spec), valid_spec());
  spec = valid_spec();
  spec.gated = Gate::gelu_tanh;
  EXPECT_EQ(describe(spec), plain + " gated gelu_tanh");
  EXPECT_EQ(spec.output_channels(), 2048);
  EXPECT_EQ(without_epilogue(spec), valid_spec());
}

TEST(KernelSpecTest, ATypeOfOutputIsDescribedAndLeftOutOfThePlainSpec) {
  KernelSpec spec = valid_spec();
  EXPECT_EQ(spec.output_type(), output_type_of(spec.format.dtype));
  EXPECT_FALSE(spec.converts_output());
  spec.output = OutputType::f32;
  EXPECT_EQ(describe(spec), describe(valid_spec()) + " output f32");
  EXPECT_EQ(describe_epilogue(spec), "f32 output");
  EXPECT_EQ(without_epilogue(spec), valid_spec());
  spec.output = output_type_of(spec.format.dtype);
  EXPECT_FALSE(spec.converts_output());
  EXPECT_EQ(describe_epilogue(spec), "");
}

TEST(KernelSpecTest, TypesOfOutputAreRefusedWithWhatIsAllowed) {
  KernelSpec spec = valid_spec();
  spec.output = static_cast<OutputType>(4);
  const Result<void> refused = validate(spec);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("output: 4 is not allowed; allowed: same"));
  EXPECT_THAT(parse_output_type("half").error().message, testing::HasSubstr("output: 'half' is not known"));
}

TEST(KernelSpecTest, SegmentsOfRowsAreDescribedAndLeftOutOfThePlainSpec) {
  KernelSpec spec = valid_spec();
  spec.segment_rows = 128;
  EXPECT_EQ(describe(spec), describe(valid_spec()) + " segments of 128");
  EXPECT_EQ(without_epilogue(spec), valid_spec());
}

TEST(KernelSpecTest, SegmentsAreWholeMultiplesButForTheLastAndMakeUpAllRows) {
  using Segments = std::vector<std::int64_t>;
  for (const Segments& good : {Segments{200}, {64, 136}, {64, 64, 64, 8}}) {
    EXPECT_TRUE(validate_segments(good, 64, 200).has_value());
  }
  const auto message = [](const Segments& segments) {
    const Result<void> result = validate_segments(segments, 64, 200);
    return result ? std::string() : result.error().message;
  };
  EXPECT_EQ(message({}), "segments: 0 given; allowed: the rows of 1 to 4");
  EXPECT_EQ(message({64, 64, 64, 4, 4}), "segments: 5 given; allowed: the rows of 1 to 4");
  EXPECT_EQ(message({32, 168}), "segments: 32 rows at index 0; allowed: a multiple of 64, at most n 200");
  EXPECT_EQ(message({0, 200}), "segments: 0 rows at index 0; allowed: a multiple of 64, at most n 200");
  EXPECT_EQ(message({64, -64, 200}),
            "segments: -64 rows at index 1; allowed: a multiple of 64, at most n 200");
  EXPECT_EQ(message({192, 0}), "segments: 0 rows at index 1; allowed: 1 or more, at most n 200");
  EXPECT_EQ(message({128, 64}), "segments: 192 rows in all; allowed: n 200");
}

}  // namespace
}  // namespace lutsmith
