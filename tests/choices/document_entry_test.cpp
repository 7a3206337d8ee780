#include "choices/document_entry.h"

#include <gtest/gtest.h>

#include <span>
#include <string>

#include "example_document.h"
#include "expect_error.h"
#include "must.h"

namespace lutsmith::choices {
namespace {

using test::example_document;
using test::example_entry;
using test::example_gpu;
using test::must;

void set_payload(cache::OtherEntry& carried, const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  carried.entry.payload.assign(bytes.begin(), bytes.end());
}

TEST(DocumentEntry, HasAllOfTheDocumentAndThatOfItsKeyAlone) {
  const cache::OtherEntry carried = to_entry(example_document());
  const auto read = must(read_entry(carried.key, carried.entry));
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(write_document(*read), write_document(example_document()));
  Gpu larger = example_gpu();
  larger.multiprocessors = 144;
  expect_error(read_entry(to_entry(Document(larger)).key, carried.entry), ErrorCode::corrupt_data,
               "132 multiprocessors");
}

TEST(DocumentEntry, KeyIsThatOfTheGpuWhateverIsKnownOfIt) {
  Document more = example_document();
  more.put(example_entry(1024));
  EXPECT_EQ(to_entry(more).key, to_entry(example_document()).key);
  Gpu other = example_gpu();
  other.name += " HBM3";
  EXPECT_NE(to_entry(Document(other)).key, to_entry(example_document()).key);
}

TEST(DocumentEntry, OtherEntriesAreNone) {
  cache::OtherEntry carried = to_entry(example_document());
  const std::string deep = R"({"a":)" + std::string(100000, '[');
  for (const std::string& manifest :
       {std::string(), std::string("{}"), std::string(R"(["tuned_choices"])"), deep,
        std::string(R"({"spec":{"tuned_choices":{}}})"), std::string(R"({"kernel":"tuned_choices"})")}) {
    carried.entry.manifest = manifest;
    EXPECT_FALSE(must(read_entry(carried.key, carried.entry)).has_value()) << manifest.substr(0, 60);
  }
}

TEST(DocumentEntry, WhatIsDamagedOrOfAnotherSchemaIsAnError) {
  cache::OtherEntry carried = to_entry(example_document());
  const std::string text = write_document(example_document());
  for (const std::string& damaged : {std::string(), std::string("{}"), text.substr(0, text.size() / 2),
                                     R"({"schema": 1, "entries": )" + std::string(1000000, '[')}) {
    set_payload(carried, damaged);
    expect_error(read_entry(carried.key, carried.entry), ErrorCode::corrupt_data, "tuned choices");
  }
  set_payload(carried, R"({"schema": 2})");
  expect_error(read_entry(carried.key, carried.entry), ErrorCode::unsupported, "schema is 2");
}

TEST(DocumentEntry, EntryNestedTooDeeplyToBeWrittenAgainIsAnError) {
  const std::string text = R"({"schema": 1, "gpu": {"name": "A", "multiprocessors": 1, "target": "sm_90a"},)"
                           R"( "entries": [)" +
                           std::string(1000000, '[') + std::string(1000000, ']') + "]}";
  expect_error(parse_document(text), ErrorCode::corrupt_data, "nested");
}

}  // namespace
}  // namespace lutsmith::choices
