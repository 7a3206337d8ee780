#include "cli/output/printable.h"

#include <gtest/gtest.h>

namespace lutsmith::cli {
namespace {

TEST(Printable, ControlCharactersNeverReachTheTerminal) {
  EXPECT_EQ(printable("\x1b[2J\x1b[31mred\x1b]0;title\x07.weight"),
            "\\x1b[2J\\x1b[31mred\\x1b]0;title\\x07.weight");
  EXPECT_EQ(printable("new\nline\r\t\x7f"), "new\\x0aline\\x0d\\x09\\x7f");
  EXPECT_EQ(printable(std::string_view("nul\0here", 8)), "nul\\x00here");
  // CSI as one character of C1, in UTF-8.
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\u009b31m");
}

TEST(Printable, CharactersThatReorderOrHideTextAreShownAsWhatTheyAre) {
  EXPECT_EQ(printable("a\xe2\x80\xae"
                      "b"),
            "a\\u202eb");
  EXPECT_EQ(printable("\xef\xbb\xbf"
                      "a\xe2\x80\x8b"),
            "\\ufeffa\\u200b");
}

TEST(Printable, BytesThatAreNoUtf8AreEscapedOneByOne) {
  EXPECT_EQ(printable("\xff\xfe.weight"), "\\xff\\xfe.weight");
  EXPECT_EQ(printable("cut\xe2\x80"), "cut\\xe2\\x80");
  EXPECT_EQ(printable("\xc0\x9b"), "\\xc0\\x9b");           // overlong
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
}

TEST(Printable, OtherTextStaysAlsoTheSecondTime) {
  for (const char* text : {"model.layers.0.weight", "sch\xc3\xb6n \\ \xe5\xb1\xa4 \xf0\x9f\x99\x82", ""}) {
    EXPECT_EQ(printable(text), text);
  }
  EXPECT_EQ(printable(printable("\x1b")), "\\x1b");
}

TEST(Printable, LongNamesLoseTheirMiddleAndNoEscapeIsCut) {
  EXPECT_EQ(printable("model.layers.0.weight", 21), "model.layers.0.weight");
  EXPECT_EQ(printable("model.layers.0.weight", 17), "model.l....weight");
  EXPECT_EQ(printable(std::string(40'000, 'a'), 60).size(), 60U);
  EXPECT_EQ(printable("\x1b\x1b\x1b\x1b", 11), "\\x1b...\\x1b");
  EXPECT_EQ(printable("\xe5\xb1\xa4\xe5\xb1\xa4\xe5\xb1\xa4\xe5\xb1\xa4\xe5\xb1\xa4\xe5\xb1\xa4", 5),
            "\xe5\xb1\xa4...\xe5\xb1\xa4");
}

}  // namespace
}  // namespace lutsmith::cli
