#include "choices/shared_choices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "choices/document_entry.h"
#include "choices/source.h"
#include "example_document.h"
#include "lutsmith/codegen.h"
#include "must.h"
#include "temporary_directory.h"

namespace lutsmith::choices {
namespace {

using test::example_document;
using test::example_entry;
using test::example_gpu;
using test::example_spec;
using test::must;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A server as RemoteStore shows one: what is there under a key stays, unless it was removed before.
class FakeServer : public cache::Store {
 public:
  Result<cache::Lookup> get(const cache::Key& key) override {
    ++gets;
    if (down) return std::unexpected(Error{ErrorCode::io_error, "no answer", ""});
    const auto found = kept.find(key);
    return found != kept.end() ? found->second : cache::Lookup{};
  }
  Result<void> put(const cache::Key& key, const cache::Entry& entry) override {
    if (down) return std::unexpected(Error{ErrorCode::io_error, "no answer", ""});
    if (kept.contains(key) && !removed.contains(key)) return {};
    kept[key].state = cache::LookupState::hit;
    kept[key].entry = entry;
    ++puts;
    return {};
  }
  Result<bool> remove(const cache::Key& key) override {
    removed.insert(key);
    return false;
  }
  Result<void> scan(const std::function<bool(const cache::StoredEntry&)>& /*visit*/) override { return {}; }

  std::map<cache::Key, cache::Lookup> kept;
  std::set<cache::Key> removed;
  bool down = false;
  int gets = 0;
  int puts = 0;
};

class SharedChoicesTest : public testing::Test {
 protected:
  SharedChoicesTest() { std::filesystem::permissions(directory_.path(), std::filesystem::perms::owner_all); }

  Database own() const { return {directory_.path(), {}}; }
  void keep(const Entry& entry) {
    Document document(gpu_);
    document.put(entry);
    must(own().add(document));
  }
  /// What the server has for example_spec(n), whatever it is.
  cache::Lookup& there(std::int64_t n = 4096) { return server_->kept[key_of(gpu_, example_spec(n))]; }
  std::string measured_there() {
    return must(read_entry(gpu_, example_spec(), there().entry)).conditions.measured;
  }
  ChoiceOrigin origin(Source& source, std::int64_t n = 4096) {
    return must(source.candidates(example_spec(n), &gpu_)).front().origin;
  }

  TemporaryDirectory directory_;
  Gpu gpu_ = example_gpu();
  std::shared_ptr<FakeServer> server_ = std::make_shared<FakeServer>();
  std::vector<std::string> complaints_;
  Complain complain_ = [this](std::string_view text) { complaints_.emplace_back(text); };
  std::shared_ptr<SharedChoices> shared_ = std::make_shared<SharedChoices>(server_, complain_);
  TunedSource source_{own(), complain_, shared_};
};

TEST_F(SharedChoicesTest, WhatOneMachineSendsAnotherFinds) {
  shared_->send(gpu_, example_entry());
  EXPECT_EQ(must(source_.candidates(example_spec(), &gpu_)).front().choice, example_entry().chosen());
  EXPECT_EQ(origin(source_), ChoiceOrigin::tuned);
  EXPECT_EQ(origin(source_, 512), ChoiceOrigin::model);
  EXPECT_THAT(complaints_, IsEmpty());
  Gpu larger = gpu_;
  larger.multiprocessors = 144;
  EXPECT_FALSE(shared_->find(larger, example_spec()).has_value());
}

TEST_F(SharedChoicesTest, WholeBucketIsUnderOneKey) {
  EXPECT_EQ(key_of(gpu_, example_spec(4096, 2)), key_of(gpu_, example_spec(4096, 8)));
  EXPECT_NE(key_of(gpu_, example_spec(4096, 1)), key_of(gpu_, example_spec(4096, 8)));
  EXPECT_NE(key_of(gpu_, example_spec()), to_entry(example_document()).key);
}

TEST_F(SharedChoicesTest, ServerIsAskedOnceForASpecAndNotForWhatTheDirectoryHas) {
  keep(example_entry());
  EXPECT_EQ(origin(source_), ChoiceOrigin::tuned);
  EXPECT_EQ(server_->gets, 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(origin(source_, 512), ChoiceOrigin::model);
  EXPECT_EQ(server_->gets, 1);
  shared_->send(gpu_, example_entry(512));
  EXPECT_EQ(origin(source_, 512), ChoiceOrigin::model) << "a process chooses alike";
  source_.refresh();
  EXPECT_EQ(origin(source_, 512), ChoiceOrigin::tuned);
}

TEST_F(SharedChoicesTest, ServersChoiceComesBeforeTheLibrarysAndAfterTheDirectorys) {
  ASSERT_FALSE(shipped_documents().empty());
  const Document& shipped = shipped_documents().front();
  Entry entry = shipped.entries().begin()->second;
  const KernelSpec spec = entry.spec;
  const auto partitions = [&] {
    source_.refresh();
    return must(source_.candidates(spec, &shipped.gpu())).front().choice.partitions;
  };
  EXPECT_EQ(partitions(), entry.choice.partitions);
  const int apart = entry.choice.partitions + 1;
  entry.choice.partitions = apart;
  entry.conditions.measured = "2025-01-01T00:00:00Z";  // older, and yet
  shared_->send(shipped.gpu(), entry);
  EXPECT_EQ(partitions(), apart);
  entry.choice.partitions = apart + 1;
  entry.conditions.measured = "2024-01-01T00:00:00Z";
  Document mine(shipped.gpu());
  mine.put(entry);
  must(own().add(mine));
  EXPECT_EQ(partitions(), apart + 1);
}

TEST_F(SharedChoicesTest, OlderEntryNeverTakesThePlaceOfALaterOne) {
  shared_->send(gpu_, example_entry(4096, "2026-01-02T00:00:00Z"));
  shared_->send(gpu_, example_entry(4096, "2026-01-01T00:00:00Z"));
  EXPECT_EQ(measured_there(), "2026-01-02T00:00:00Z");
  EXPECT_EQ(server_->puts, 1);
  shared_->send(gpu_, example_entry(4096, "2026-01-03T00:00:00Z"));
  EXPECT_EQ(measured_there(), "2026-01-03T00:00:00Z");
}

TEST_F(SharedChoicesTest, ExchangeTakesWhatIsLaterThereAndSendsWhatIsLaterHere) {
  const std::vector<KernelSpec> specs{example_spec(1024), example_spec(2048), example_spec(4096),
                                      example_spec(6144)};
  const auto fill = [&] {
    shared_->send(gpu_, example_entry(1024, "2026-01-05T00:00:00Z"));
    shared_->send(gpu_, example_entry(2048, "2026-01-01T00:00:00Z"));
    shared_->send(gpu_, example_entry(8192));  // not asked for
    keep(example_entry(1024, "2026-01-01T00:00:00Z"));
    keep(example_entry(2048, "2026-01-05T00:00:00Z"));
    keep(example_entry(4096));
  };
  fill();
  EXPECT_EQ(shared_->exchange(own(), gpu_, specs), 1U);
  const Document here = own().read_own(gpu_);
  EXPECT_EQ(here.entries().size(), 3U);
  for (const std::int64_t n : {1024, 2048, 4096}) {
    const Entry* mine = here.find(example_spec(n));
    const std::optional<Entry> theirs = shared_->find(gpu_, example_spec(n));
    ASSERT_TRUE(mine != nullptr && theirs) << n;
    EXPECT_EQ(mine->conditions.measured, theirs->conditions.measured) << n;
  }
  EXPECT_EQ(here.find(example_spec(1024))->conditions.measured, "2026-01-05T00:00:00Z");
  const int puts = server_->puts;
  EXPECT_EQ(shared_->exchange(own(), gpu_, specs), 0U);
  EXPECT_EQ(server_->puts, puts) << "nothing is sent twice";
}

TEST_F(SharedChoicesTest, DeadServerIsAMissThatIsToldOnce) {
  server_->down = true;
  for (const std::int64_t n : {512, 1024, 2048}) EXPECT_EQ(origin(source_, n), ChoiceOrigin::model);
  shared_->send(gpu_, example_entry());
  const std::vector<KernelSpec> specs{example_spec(), example_spec(6144)};
  keep(example_entry());
  EXPECT_EQ(shared_->exchange(own(), gpu_, specs), 0U);
  EXPECT_THAT(complaints_, ElementsAre(testing::AllOf(HasSubstr("no answer"), HasSubstr("not shared"))));
}

void set_text(cache::Lookup& lookup, const std::string& text) {
  lookup.state = cache::LookupState::hit;
  lookup.entry = to_entry(example_gpu(), example_entry()).entry;
  const auto bytes = std::as_bytes(std::span(text));
  lookup.entry.payload.assign(bytes.begin(), bytes.end());
}

TEST_F(SharedChoicesTest, BrokenTornOrForeignEntryIsAMissThatIsToldAndReplaced) {
  const std::string whole = write_document(example_document());
  Document other({.name = "Other", .multiprocessors = 132, .target = gpu_.target});
  other.put(example_entry());
  Document of_another_spec(gpu_);
  of_another_spec.put(example_entry(1024));
  const std::vector<std::pair<std::string, std::function<void(cache::Lookup&)>>> faults{
      {"torn on the way",
       [](cache::Lookup& lookup) {
         lookup.state = cache::LookupState::damaged;
         lookup.note = "torn on the way";
       }},
      {"no document",
       [](cache::Lookup& lookup) {
         lookup.state = cache::LookupState::hit;
         lookup.entry = {.manifest = "{}", .payload = {}};
       }},
      {"cut off", [&](cache::Lookup& lookup) { set_text(lookup, whole.substr(0, whole.size() / 2)); }},
      {"of Other", [&](cache::Lookup& lookup) { set_text(lookup, write_document(other)); }},
      {"no choice", [&](cache::Lookup& lookup) { set_text(lookup, write_document(of_another_spec)); }}};
  for (const auto& [complaint, fault] : faults) {
    complaints_.clear();
    source_.refresh();
    fault(there());
    EXPECT_EQ(origin(source_), ChoiceOrigin::model) << complaint;
    EXPECT_THAT(complaints_, ElementsAre(HasSubstr(complaint)));
    shared_->send(gpu_, example_entry());
    source_.refresh();
    EXPECT_EQ(origin(source_), ChoiceOrigin::tuned) << complaint;
  }
}

TEST_F(SharedChoicesTest, EntryOfALaterVersionIsAMissThatIsToldAndLeftAlone) {
  std::string later = write_document(example_document());
  const std::string family = "\"schedules\":[{";
  for (std::size_t at = later.find(family); at != std::string::npos; at = later.find(family, at + 1)) {
    later.insert(at + family.size(), "\"family\":\"of tomorrow\",");
  }
  for (const std::string& text : {later, std::string(R"({"schema": 9})")}) {
    complaints_.clear();
    source_.refresh();
    set_text(there(), text);
    const cache::Entry before = there().entry;
    EXPECT_EQ(origin(source_), ChoiceOrigin::model);
    EXPECT_EQ(complaints_.size(), 1U);
    shared_->send(gpu_, example_entry(4096, "2030-01-01T00:00:00Z"));
    EXPECT_EQ(there().entry, before);
  }
  there().state = cache::LookupState::newer;
  there().note = "of a later version";
  complaints_.clear();
  shared_->send(gpu_, example_entry());
  EXPECT_EQ(there().state, cache::LookupState::newer);
  EXPECT_THAT(complaints_, ElementsAre(HasSubstr("of a later version")));
}

TEST_F(SharedChoicesTest, WithoutADirectoryExchangeTellsThatNothingIsKept) {
  shared_->send(gpu_, example_entry());
  const std::vector<KernelSpec> specs{example_spec()};
  EXPECT_EQ(shared_->exchange(Database("", {}), gpu_, specs), 0U);
  EXPECT_THAT(complaints_, ElementsAre(HasSubstr("not kept")));
}

}  // namespace
}  // namespace lutsmith::choices
