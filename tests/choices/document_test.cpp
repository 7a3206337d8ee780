#include "choices/document.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/field_json.h"
#include "example_document.h"
#include "expect_error.h"
#include "must.h"

namespace lutsmith::choices {
namespace {

using test::example_document;
using test::example_entry;
using test::example_gpu;
using test::example_spec;
using test::must;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto place = text.find(from);
  EXPECT_NE(place, std::string::npos) << from;
  return text.replace(place, from.size(), to);
}

TEST(TunedDocument, ComesBackAsItWasWritten) {
  const std::string text = write_document(example_document());
  const Document read = must(parse_document(text));
  EXPECT_EQ(read.gpu(), example_gpu());
  EXPECT_EQ(read.entries().size(), 2U);
  EXPECT_EQ(read.unread(), 0U);
  const Entry* entry = read.find(example_spec(6144));
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->chosen(), (Choice{example_entry().schedules[1], 264}));
  EXPECT_EQ(entry->spec, example_spec(6144));
  EXPECT_DOUBLE_EQ(entry->standard.microseconds, 5.022);
  EXPECT_EQ(entry->conditions.clock_mhz, 1980);
  EXPECT_FALSE(entry->conditions.power_watts);
  EXPECT_FALSE(entry->fp16_microseconds);
  EXPECT_EQ(entry->failures.front().reason, "spills 32 bytes");
  EXPECT_EQ(write_document(read), text);
}

TEST(TunedDocument, SaysWhetherTheGpuWasAtItsPowerLimit) {
  for (const std::optional<bool> capped :
       {std::optional<bool>(), std::optional(false), std::optional(true)}) {
    Document document(example_gpu());
    Entry entry = example_entry();
    entry.conditions.power_capped = capped;
    document.put(entry);
    EXPECT_EQ(must(parse_document(write_document(document))).find(example_spec())->conditions.power_capped,
              capped);
  }
  const std::string before =
      replaced(replaced(write_document(example_document()), "\"power_capped\":null,", ""),
               "\"power_capped\":null,", "");
  EXPECT_EQ(must(parse_document(before)).entries().size(), 2U) << "older documents do not tell";
  const std::string wrong = replaced(before, "\"throttled_by\"", "\"power_capped\":1,\"throttled_by\"");
  EXPECT_EQ(must(parse_document(wrong)).unread(), 1U);
}

TEST(TunedDocument, ServesEveryNumberOfTokensOfABucket) {
  Document document(example_gpu());
  Entry entry = example_entry();
  entry.spec.m = 8;
  document.put(entry);
  EXPECT_NE(document.find(example_spec(4096, 2)), nullptr);
  EXPECT_NE(document.find(example_spec(4096, 8)), nullptr);
  EXPECT_EQ(document.find(example_spec(4096, 1)), nullptr);
  EXPECT_EQ(document.find(example_spec(4096, 9)), nullptr);
}

TEST(TunedDocument, CutOffAnywhereIsRefused) {
  const std::string text = write_document(example_document());
  for (std::size_t bytes = 0; bytes + 2 < text.size(); ++bytes) {
    ASSERT_EQ(parse_document(text.substr(0, bytes)).error().code, ErrorCode::corrupt_data) << bytes;
  }
}

TEST(TunedDocument, OfAnotherSchemaIsRefusedAsSuch) {
  const std::string text = write_document(example_document());
  expect_error(parse_document(replaced(text, "\"schema\": 1", "\"schema\": 2")), ErrorCode::unsupported,
               "schema is 2");
  expect_error(parse_document("{\"cars\": 3}"), ErrorCode::corrupt_data, "no document");
}

TEST(TunedDocument, EntriesThatThisVersionCannotReadAreKept) {
  const std::string text = replaced(write_document(example_document()), "\"dependent_launch\":true",
                                    "\"dependent_launch\":true,\"family\":\"of_next_year\"");
  const Document read = must(parse_document(text));
  EXPECT_EQ(read.entries().size(), 1U);
  EXPECT_EQ(read.unread(), 1U);
  EXPECT_NE(write_document(read).find("of_next_year"), std::string::npos);
  Document other = example_document();
  other.merge(read);
  other.merge(read);
  EXPECT_EQ(other.unread(), 1U);
}

TEST(TunedDocument, FieldThatIsMissingWasAddedSinceAndHasItsInitialValue) {
  const nlohmann::json whole = nlohmann::json::parse(write_document(example_document()));
  const FewTokensSchedule defaults;
  visit_fields(defaults, [&](const FieldInfo& field, const auto&) {
    nlohmann::json older = whole;
    for (nlohmann::json& entry : older["entries"]) {
      for (nlohmann::json& schedule : entry["schedules"])
        EXPECT_EQ(schedule.erase(std::string(field.name)), 1U);
    }
    const Document read = must(parse_document(older.dump()));
    EXPECT_EQ(read.unread(), 0U) << field.name;
    const Entry* entry = read.find(example_spec());
    ASSERT_NE(entry, nullptr) << field.name;
    nlohmann::json initial = nlohmann::json::parse(write_document(read))["entries"][0]["schedules"][1];
    nlohmann::json expected = whole["entries"][0]["schedules"][1];
    expected[std::string(field.name)] = schedule_json<nlohmann::json>(defaults)[std::string(field.name)];
    EXPECT_EQ(initial, expected) << field.name;
  });
  nlohmann::json older = whole;
  for (nlohmann::json& entry : older["entries"]) entry["spec"].erase("table");
  const Document read = must(parse_document(older.dump()));
  EXPECT_NE(read.find(example_spec()), nullptr);
  older["entries"][0]["spec"].erase("n");  // nothing stands for that
  EXPECT_EQ(must(parse_document(older.dump())).unread(), 1U);
}

TEST(TunedDocument, FieldThatIsNotKnownCostsItsEntryAndNoOther) {
  const std::string text = write_document(example_document());
  for (const auto& [from, to] : std::initializer_list<std::pair<const char*, const char*>>{
           {"\"warps\":4", "\"warps\":4,\"of_next_year\":true"},
           {"\"bits\":4", "\"bits\":4,\"of_next_year\":0"}}) {
    const Document read = must(parse_document(replaced(text, from, to)));
    EXPECT_EQ(read.entries().size(), 1U) << to;
    EXPECT_EQ(read.unread(), 1U) << to;
    EXPECT_NE(write_document(read).find("of_next_year"), std::string::npos)
        << "lost when it is written again";
  }
  const Document read = must(parse_document(replaced(text, "\"noise\"", "\"of_next_year\":[1],\"noise\"")));
  EXPECT_EQ(read.entries().size(), 2U) << "what is of no concern to the choice";
}

TEST(TunedDocument, OfTwoEntriesForASpecTheOneMeasuredLaterCounts) {
  const auto entry_of = [](const std::string& measured) {
    Document document(example_gpu());
    document.put(example_entry(4096, measured));
    return nlohmann::json::parse(write_document(document));
  };
  nlohmann::json both = entry_of("2026-02-01T00:00:00Z");
  for (const char* other : {"2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"}) {
    both["entries"].push_back(entry_of(other)["entries"][0]);
    const Document read = must(parse_document(both.dump()));
    const std::string later = std::max(std::string(other), std::string("2026-02-01T00:00:00Z"));
    EXPECT_EQ(read.find(example_spec())->conditions.measured, later);
  }
}

TEST(TunedDocument, EntriesThatNoLaunchCouldFollowAreLeftOut) {
  const std::string text = write_document(example_document());
  for (const auto& [from, to] : std::initializer_list<std::pair<const char*, const char*>>{
           {"\"schedule\":1,\"partitions\":264", "\"schedule\":2,\"partitions\":264"},
           {"\"partitions\":264", "\"partitions\":-1"},
           {"\"partitions\":264", "\"partitions\":4294967296"},
           {"\"warps\":4", "\"warps\":99"},
           {"\"microseconds\":4.8", "\"microseconds\":0"},
           {"\"bits\":4", "\"bits\":40"},
           {"\"m\":1", "\"m\":3"},
           {"13.0.88", "\\u001b[2J"}}) {
    const Document read = must(parse_document(replaced(text, from, to)));
    EXPECT_EQ(read.entries().size(), 1U) << to;
    EXPECT_EQ(read.unread(), 1U) << to;
  }
}

TEST(TunedDocument, OfAnUnknownGpuIsRefused) {
  const std::string text = write_document(example_document());
  for (const auto& [from, to] : std::initializer_list<std::pair<const char*, const char*>>{
           {"sm_90a", "sm_7"},
           {"Example GPU", "\\u001b[2J"},
           {"\"multiprocessors\":132", "\"multiprocessors\":0"}}) {
    expect_error(parse_document(replaced(text, from, to)), ErrorCode::corrupt_data, "GPU");
  }
}

TEST(TunedDocument, MergedTakesWhatWasMeasuredLater) {
  Entry older = example_entry(4096, "2026-01-01T00:00:00Z");
  older.choice.microseconds = 1;
  Entry newer = example_entry(4096, "2026-02-01T00:00:00Z");
  newer.choice.microseconds = 2;
  Document one(example_gpu());
  one.put(older);
  Document two(example_gpu());
  two.put(newer);
  two.put(example_entry(8192));
  Document both = one;
  both.merge(two);
  EXPECT_EQ(both.entries().size(), 2U);
  EXPECT_EQ(both.find(example_spec())->choice.microseconds, 2);
  two.merge(one);
  EXPECT_EQ(write_document(two), write_document(both));
}

TEST(TunedDocument, IsNamedForItsGpu) {
  EXPECT_EQ(file_name({.name = "NVIDIA H100 80GB HBM3", .multiprocessors = 132}),
            "nvidia-h100-80gb-hbm3-132.v1.json");
  EXPECT_EQ(file_name({.name = "../../x", .multiprocessors = 1}), "x-1.v1.json");
}

}  // namespace
}  // namespace lutsmith::choices
