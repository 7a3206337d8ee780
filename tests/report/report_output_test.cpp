#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/verbs/report/report_html.h"
#include "cli/verbs/report/report_json.h"
#include "cli/verbs/report/report_markdown.h"
#include "example_choices.h"
#include "must.h"

namespace lutsmith::test {
namespace {

using cli::Json;
using cli::TuningReport;
using testing::HasSubstr;
using testing::Not;

TuningReport example_report() {
  return must(cli::make_report({.documents = {example_choices({})}, .sources = {"example.json"}}, {}));
}

/// With text of a stranger in every place where a document has text.
TuningReport hostile_report(const std::string& text) {
  choices::Entry entry = example_choices({.tokens = {1}}).entries().begin()->second;
  entry.failures = {{0, text}};
  entry.conditions.driver = entry.conditions.compiler = entry.conditions.throttled_by = text;
  choices::Document document({.name = text, .multiprocessors = 132, .target = entry.spec.target});
  document.put(entry);
  return must(cli::make_report({.documents = {document}, .sources = {text}}, {}));
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t i = text.find(part); i != std::string_view::npos; i = text.find(part, i + 1)) ++found;
  return found;
}

/// What stands in the page's element for data.
Json data_of(const std::string& html) {
  constexpr std::string_view kBegin = "id=\"report-data\">";
  const std::size_t begin = html.find(kBegin) + kBegin.size();
  return Json::parse(html.substr(begin, html.find("</script>", begin) - begin));
}

TEST(ReportJson, WhatModelsAndChangesCountIntoIsThere) {
  const Json json = cli::to_json(example_report());
  ASSERT_EQ(json["shapes"].size(), 16U);
  for (const Json& model : json["models"]) {
    EXPECT_LT(model["gpu"], json["gpus"].size());
    for (const Json& step : model["steps"]) {
      ASSERT_EQ(step["layers"].size(), model["layers"].size());
      for (std::size_t i = 0; i < step["layers"].size(); ++i) {
        const Json& shape = json["shapes"].at(step["layers"][i]["shape"].get<std::size_t>());
        EXPECT_EQ(shape["spec"]["n"], model["layers"][i]["n"]);
        EXPECT_EQ(shape["spec"]["k"], model["layers"][i]["k"]);
      }
    }
  }
  for (const Json& shape : json["shapes"]) {
    EXPECT_LT(shape["choice"]["schedule"], shape["schedules"].size());
    EXPECT_FALSE(shape["measurements"].empty());
    EXPECT_TRUE(shape["change"].is_null());
  }
  EXPECT_TRUE(json["against"].is_null());
}

TEST(ReportJson, ShapesMeasuredAtThePowerLimitAreShownAndNotDoubtful) {
  choices::Document document(example_choices({}).gpu());
  const choices::Document all = example_choices({.tokens = {1}});
  for (const auto& [name, entry] : all.entries()) {
    choices::Entry capped = entry;
    capped.conditions.power_capped = document.entries().empty();
    document.put(capped);
  }
  const TuningReport report = must(cli::make_report({.documents = {document}, .sources = {}}, {}));
  const Json json = cli::to_json(report);
  EXPECT_EQ(json["summary"]["power_capped"], 1);
  EXPECT_EQ(json["summary"]["doubtful"], 0);
  std::size_t capped = 0;
  for (const Json& shape : json["shapes"]) capped += shape["conditions"]["power_capped"] == true ? 1U : 0U;
  EXPECT_EQ(capped, 1U);
  const std::string text = cli::report_markdown(report);
  EXPECT_EQ(count(text, "good, power-capped"), 1U);
  EXPECT_THAT(text, HasSubstr("1 shape measured while power-capped"));
}

TEST(ReportJson, WhatWasNotMeasuredIsNull) {
  choices::Entry entry = example_choices({.tokens = {1}}).entries().begin()->second;
  entry.fp16_microseconds.reset();
  entry.conditions.clock_mhz.reset();
  choices::Document document(example_choices({}).gpu());
  document.put(entry);
  const Json json = cli::to_json(must(cli::make_report({.documents = {document}, .sources = {}}, {})));
  EXPECT_TRUE(json["shapes"][0]["fp16_microseconds"].is_null());
  EXPECT_TRUE(json["shapes"][0]["fp16_speedup"].is_null());
  EXPECT_TRUE(json["shapes"][0]["conditions"]["clock_mhz"].is_null());
  EXPECT_TRUE(json["summary"]["fp16_speedup"].is_null());
  EXPECT_TRUE(json["models"].empty());
}

TEST(ReportHtml, HoldsTheSameDataAsJson) {
  const Json json = cli::to_json(example_report());
  EXPECT_EQ(data_of(cli::report_html(json)), json);
}

TEST(ReportHtml, NamesNothingThatABrowserWouldLoad) {
  const std::string html = cli::report_html(cli::to_json(example_report()));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  EXPECT_THAT(html, Not(HasSubstr("sourceMappingURL")));
  EXPECT_THAT(html, Not(HasSubstr(" src=")));
  EXPECT_THAT(html, Not(HasSubstr("{{")));
  EXPECT_THAT(html, HasSubstr("<script data-module=\"vega-view\">"));
}

TEST(ReportHtml, TextOfADocumentCannotEndItsElement) {
  const std::string plain = cli::report_html(cli::to_json(hostile_report("x")));
  const std::string text =
      "</script></title><script>alert(1)</script><!--<img src=x onerror=alert(1)>{{vega}}";
  const Json json = cli::to_json(hostile_report(text));
  const std::string html = cli::report_html(json);
  EXPECT_EQ(count(html, "<script"), count(plain, "<script"));
  EXPECT_EQ(count(html, "</title"), count(plain, "</title"));
  EXPECT_EQ(count(html, "<!--"), count(plain, "<!--"));
  EXPECT_EQ(count(html, "<img"), count(plain, "<img"));
  EXPECT_EQ(data_of(html), json);
}

TEST(ReportMarkdown, HasEveryShapeAndModel) {
  const TuningReport report = example_report();
  const std::string text = cli::report_markdown(report);
  for (const cli::ReportShape& shape : report.shapes) {
    EXPECT_THAT(text, HasSubstr("\n| " + cli::shape_name(shape.entry->spec) + " |"));
  }
  EXPECT_THAT(text, HasSubstr("### llama3.1-8b, mistral-7b, w4 g128 f16 scalar"));
}

TEST(ReportMarkdown, EveryRowOfATableHasAllItsCells) {
  // Of each line the bars that stand between cells, not those that are text.
  const std::string text = cli::report_markdown(hostile_report("a|b\nc`<b>\\|"));
  std::size_t expected = 0;
  std::size_t rows = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    if (!line.starts_with("|")) {
      expected = 0;
      continue;
    }
    std::size_t bars = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '\\') {
        ++i;
      } else if (line[i] == '|') {
        ++bars;
      }
    }
    if (expected == 0) expected = bars;
    EXPECT_EQ(bars, expected) << line;
    ++rows;
  }
  EXPECT_GT(rows, 10U);
}

}  // namespace
}  // namespace lutsmith::test
