#include "cli/options/name_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lutsmith::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

bool found(const std::string& expression, const std::string& name) {
  const auto pattern = NamePattern::parse("layers", expression);
  if (!pattern) ADD_FAILURE() << pattern.error().message;
  return pattern && pattern->found_in(name);
}

std::string refusal(const std::string& expression) {
  const auto pattern = NamePattern::parse("layers", expression);
  return pattern ? "" : pattern.error().message;
}

TEST(NamePattern, IsFoundInAnyPartOfTheName) {
  EXPECT_TRUE(found("mlp", "model.layers.0.mlp.up_proj.weight"));
  EXPECT_TRUE(found("", "anything"));
  EXPECT_TRUE(found("^model.*weight$", "model.a.weight"));
  EXPECT_FALSE(found("^mlp", "model.mlp"));
  EXPECT_TRUE(found("weight", "new\nline.weight"));
}

// std::regex recursed once per character here until the stack was gone.
TEST(NamePattern, NameOfFortyThousandCharactersIsMatchedWithoutRecursion) {
  EXPECT_TRUE(found(".*weight", std::string(40'000, 'a') + ".weight"));
  EXPECT_FALSE(found("(a|b)*c", std::string(4'000'000, 'a')));
}

// std::regex needs 2^40 steps for this, so this test would not end.
TEST(NamePattern, NestedRepetitionTakesLinearTime) {
  EXPECT_FALSE(found("(a+)+b$", std::string(40'000, 'a')));
}

TEST(NamePattern, BytesThatAreNoUtf8AreNamesToo) { EXPECT_TRUE(found("\\.weight$", "\xff\xfe.weight")); }

TEST(NamePattern, ErrorHasTheReasonAndShowsNoControlCharacter) {
  EXPECT_THAT(refusal("(mlp"),
              AllOf(HasSubstr("layers: '(mlp' is not a regular expression"), HasSubstr("missing )")));
  EXPECT_THAT(refusal("*.weight"), HasSubstr("no argument for repetition operator: *"));
  EXPECT_THAT(refusal("(?=a)"), HasSubstr("not a regular expression"));
  EXPECT_THAT(refusal("((a{1000}){1000}){1000}"), HasSubstr("not a regular expression"));
  EXPECT_THAT(refusal("\x1b("), AllOf(HasSubstr("\\x1b"), testing::Not(HasSubstr("\x1b"))));
}

TEST(Wildcard, BecomesTheExpressionThatMeansTheSame) {
  EXPECT_EQ(expression_of_wildcard("*.weight"), ".*\\.weight$");
  EXPECT_EQ(expression_of_wildcard("model.layers.?.mlp*"), "^model\\.layers\\..\\.mlp.*$");
  EXPECT_EQ(expression_of_wildcard("mlp"), "");
}

TEST(Wildcard, AdviceNamesTheExpressionAndWhatItWouldMatch) {
  const std::string advice = wildcard_advice("layers", "*.weight", {"a.bias", "a.weight", "b.weight"});
  EXPECT_THAT(advice, AllOf(HasSubstr("regular expression"), HasSubstr("'.*\\.weight$'"),
                            HasSubstr("2 of the names: a.weight, b.weight")));
  EXPECT_EQ(wildcard_advice("layers", "mlp", {"a.weight"}), "");
  EXPECT_EQ(wildcard_advice("layers", "*.nothing", {"a.weight"}), "");
}

}  // namespace
}  // namespace lutsmith::cli
