#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "cache/bundles/bundle.h"
#include "cache/stores/disk_store.h"
#include "choices/database.h"
#include "choices/document_entry.h"
#include "example_document.h"
#include "key_files.h"
#include "must.h"
#include "small_kernels.h"

namespace lutsmith::tests {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Two kernels on one machine, and another that has none.
class CacheBundle : public testing::Test {
 protected:
  CacheBundle() {
    cache::write_private(file("key.pem"), cache::kSeed1);
    cache::write_public(file("key.pub"), cache::kPublic1);
    cache::write_public(file("other.pub"), cache::kPublic2);
    go_to("one");
    keys_ = fill_cache(program_, "2,3");
  }

  void go_to(const std::string& machine) { program_.set_environment("LUTSMITH_CACHE_DIR", file(machine)); }
  fs::path file(const std::string& name) const { return program_.file(name); }

  Outcome export_bundle(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments{"cache", "export", "--json", "-o", file("bundle")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return program_.run(arguments);
  }
  Outcome import_bundle(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments{"cache", "import", "--json", file("bundle")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return program_.run(arguments);
  }
  Outcome import_trusted() const { return import_bundle({"--trust", file("key.pub")}); }

  void expect_refused(const Outcome& outcome, int exit_code, const std::string& message) const {
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.errors;
    EXPECT_THAT(outcome.errors, HasSubstr(message));
    EXPECT_TRUE(outcome.json()["error"].is_object()) << outcome.output;
    EXPECT_EQ(kernels_in_cache(program_), 0U);
  }

  CommandLine program_;
  std::vector<std::string> keys_;
};

TEST_F(CacheBundle, KernelsOfASignedBundleAreHitsOnTheOtherMachine) {
  const Outcome exported = export_bundle({"--sign", file("key.pem")});
  ASSERT_EQ(exported.exit_code, 0) << exported.errors;
  EXPECT_EQ(exported.json()["entries"], 2);
  EXPECT_EQ(exported.json()["bytes"], fs::file_size(file("bundle")));
  EXPECT_THAT(exported.json()["left_out"], IsEmpty());
  go_to("two");
  const Outcome imported = import_trusted();
  ASSERT_EQ(imported.exit_code, 0) << imported.errors;
  EXPECT_EQ(imported.json()["imported"], 2);
  EXPECT_EQ(imported.json()["present"], 0);
  EXPECT_NE(imported.json()["signer"], "");
  EXPECT_EQ(imported.json()["signer"], exported.json()["signer"]);
  EXPECT_EQ(outcome_of_compiling(program_, "2"), "hit");
  EXPECT_EQ(outcome_of_compiling(program_, "3"), "hit");
  const Outcome again = program_.run({"cache", "import", file("bundle"), "--trust", file("key.pub")});
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_THAT(again.output, HasSubstr("0 kernels imported, 2 there already; signed by"));
}

TEST_F(CacheBundle, UnsignedOnesAreTakenOnlyWhereThatIsAllowed) {
  ASSERT_EQ(export_bundle().exit_code, 0);
  go_to("two");
  expect_refused(import_bundle(), 2, "--allow-unsigned");
  expect_refused(import_trusted(), 2, "not signed");
  expect_refused(import_bundle({"--trust", file("key.pub"), "--allow-unsigned"}), 2, "either");
  const Outcome allowed = import_bundle({"--allow-unsigned"});
  EXPECT_EQ(allowed.exit_code, 0) << allowed.errors;
  EXPECT_EQ(allowed.json()["imported"], 2);
  EXPECT_EQ(allowed.json()["signer"], "");
}

TEST_F(CacheBundle, SignedByAnotherKeyOrByOneNobodyNamedImportsNothing) {
  ASSERT_EQ(export_bundle({"--sign", file("key.pem")}).exit_code, 0);
  go_to("two");
  expect_refused(import_bundle({"--trust", file("other.pub")}), 2, "signed by the key");
  expect_refused(import_bundle(), 2, "--trust FILE");
  expect_refused(import_bundle({"--allow-unsigned"}), 2, "signed by the key");
  expect_refused(import_bundle({"--trust", file("no.pub")}), 1, "no.pub");
  expect_refused(import_bundle({"--trust", file("bundle")}), 2, "bundle");
}

TEST_F(CacheBundle, OneChangedByteAnywhereImportsNothing) {
  ASSERT_EQ(export_bundle({"--sign", file("key.pem")}).exit_code, 0);
  go_to("two");
  const std::string intact = read_file(file("bundle"));
  const std::size_t index_end = intact.find("]}");
  ASSERT_NE(index_end, std::string::npos);
  for (const std::size_t offset :
       {std::size_t{0}, std::size_t{8}, std::size_t{12}, intact.find("created") + 12,
        intact.find("signer") + 12, intact.find("sha256") + 12, index_end + 10, index_end + 100,
        intact.size() / 2, intact.size() - 1}) {
    flip_byte(file("bundle"), offset);
    const Outcome outcome = import_trusted();
    EXPECT_NE(outcome.exit_code, 0) << offset;
    expect_refused(outcome, outcome.exit_code, "cannot import");
    write_file(file("bundle"), intact);
  }
  for (const std::string& other : {intact.substr(0, intact.size() - 1), intact.substr(0, 40), intact + "x"}) {
    write_file(file("bundle"), other);
    expect_refused(import_trusted(), 1, "cannot import");
  }
  write_file(file("bundle"), intact);
  EXPECT_EQ(import_trusted().exit_code, 0);
}

TEST_F(CacheBundle, WhatIsNoBundleIsRefused) {
  go_to("two");
  write_file(file("bundle"), "some text");
  expect_refused(import_bundle({"--allow-unsigned"}), 1, "bundle");
  fs::remove(file("bundle"));
  expect_refused(import_bundle({"--allow-unsigned"}), 1, "bundle");
  fs::create_directory(file("bundle"));
  expect_refused(import_bundle({"--allow-unsigned"}), 2, "not a regular file");
}

TEST_F(CacheBundle, KeysAndTargetsChooseWhatGoesIn) {
  const Outcome one = export_bundle({keys_[1].substr(0, 12)});
  ASSERT_EQ(one.exit_code, 0) << one.errors;
  EXPECT_EQ(one.json()["entries"], 1);
  EXPECT_EQ(export_bundle({keys_[1], keys_[1], keys_[0]}).json()["entries"], 2);
  EXPECT_EQ(export_bundle({"--target", "sm_80,sm_90a"}).json()["entries"], 2);
  const std::vector<std::pair<std::vector<std::string>, int>> wrong{{{"--target", "sm_90a"}, 1},
                                                                    {{"--target", "sm_9"}, 2},
                                                                    {{"ffffffff"}, 1},
                                                                    {{"12"}, 2},
                                                                    {{keys_[0], "--target", "sm_80"}, 2}};
  fs::remove(file("bundle"));
  for (const auto& [more, exit_code] : wrong) {
    const Outcome outcome = export_bundle(more);
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.errors;
    EXPECT_TRUE(outcome.json()["error"].is_object());
  }
  EXPECT_FALSE(fs::exists(file("bundle")));
}

TEST_F(CacheBundle, DamagedKernelsAreLeftOutAndThatIsAFailure) {
  flip_byte(entry_file(file("one"), keys_[0]), 3000);
  const Outcome outcome = export_bundle({keys_[0], keys_[1]});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.json()["entries"], 1);
  ASSERT_EQ(outcome.json()["left_out"].size(), 1U);
  EXPECT_EQ(outcome.json()["left_out"][0]["key"], keys_[0]);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr(keys_[0]), HasSubstr("left out")));
  EXPECT_EQ(export_bundle().exit_code, 1) << "not all kernels are in a bundle of all kernels";
  go_to("two");
  EXPECT_EQ(import_bundle({"--allow-unsigned"}).json()["imported"], 1);
}

TEST_F(CacheBundle, NothingToExportIsAFailureThatSaysHowToFillTheCache) {
  go_to("two");
  const Outcome outcome = export_bundle();
  expect_refused(outcome, 1, "lutsmith warm");
  EXPECT_FALSE(fs::exists(file("bundle")));
}

TEST_F(CacheBundle, OutputsThatCannotBeWrittenAndKeysThatCannotSignLeaveNothingBehind) {
  const auto before = program_.files();
  const auto failed = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"cache", "export", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = program_.run(arguments);
    EXPECT_TRUE(outcome.json()["error"].is_object()) << outcome.output;
    EXPECT_EQ(program_.files(), before);
    return outcome.exit_code;
  };
  EXPECT_EQ(failed({"-o", file("missing") / "bundle"}), 1);
  EXPECT_EQ(failed({"-o", file("one")}), 2);
  EXPECT_EQ(failed({"-o", file("bundle"), "--sign", file("no.pem")}), 1);
  EXPECT_EQ(failed({"-o", file("bundle"), "--sign", file("key.pub")}), 2);
  EXPECT_EQ(failed({}), 2);
}

TEST_F(CacheBundle, KernelsThatTheLimitsDoNotLeaveInThereAreAFailure) {
  ASSERT_EQ(export_bundle().exit_code, 0);
  go_to("two");
  program_.set_environment("LUTSMITH_CACHE_MAX_ENTRIES", "1");
  const Outcome outcome = import_bundle({"--allow-unsigned"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.json()["lost"], 1);
  EXPECT_THAT(outcome.errors, HasSubstr("1 kernel"));
}

/// The same, and choices tuned for another GPU than that of the kernels.
class TunedBundle : public CacheBundle {
 protected:
  TunedBundle() { test::must(tuned("one").add(test::example_document())); }

  choices::Database tuned(const std::string& machine) const { return {file(machine), {}}; }
  std::string tuned_text(const std::string& machine) const {
    return choices::write_document(tuned(machine).read_own(test::example_gpu()));
  }
  void expect_all_refused(const Outcome& outcome) const {
    EXPECT_NE(outcome.exit_code, 0);
    expect_refused(outcome, outcome.exit_code, "cannot import");
    EXPECT_FALSE(fs::exists(file("two") / choices::Database::kFolder));
  }
};

TEST_F(TunedBundle, ChoicesArriveWithTheKernelsSignedOrNot) {
  const Outcome exported = export_bundle({"--sign", file("key.pem")});
  ASSERT_EQ(exported.exit_code, 0) << exported.errors;
  EXPECT_EQ(exported.json()["entries"], 2);
  EXPECT_EQ(exported.json()["tuned_documents"], 1);
  go_to("two");
  const Outcome imported = import_trusted();
  ASSERT_EQ(imported.exit_code, 0) << imported.errors;
  EXPECT_EQ(imported.json()["imported"], 2);
  EXPECT_EQ(imported.json()["tuned_documents"], 1);
  EXPECT_EQ(kernels_in_cache(program_), 2U);
  EXPECT_EQ(tuned_text("two"), tuned_text("one"));

  go_to("one");
  ASSERT_EQ(export_bundle().exit_code, 0);
  go_to("three");
  expect_refused(import_bundle(), 2, "--allow-unsigned");
  EXPECT_FALSE(fs::exists(file("three") / choices::Database::kFolder));
  const Outcome allowed = program_.run({"cache", "import", file("bundle"), "--allow-unsigned"});
  ASSERT_EQ(allowed.exit_code, 0) << allowed.errors;
  EXPECT_THAT(allowed.output,
              HasSubstr("2 kernels and the tuned choices of 1 GPU imported, 0 there already;"));
  EXPECT_EQ(tuned_text("three"), tuned_text("one"));
}

TEST_F(TunedBundle, OneChangedByteAnywhereImportsNeitherKernelsNorChoices) {
  ASSERT_EQ(export_bundle({"--sign", file("key.pem")}).exit_code, 0);
  const std::string intact = read_file(file("bundle"));
  const std::size_t entry = intact.find("tuned_choices");
  ASSERT_NE(entry, std::string::npos);
  go_to("two");
  for (const std::size_t offset :
       {intact.find("sha256") + 12, entry, entry + 100, entry + 200, intact.size() - 1}) {
    flip_byte(file("bundle"), offset);
    expect_all_refused(import_trusted());
    write_file(file("bundle"), intact);
  }
  EXPECT_EQ(import_trusted().exit_code, 0);
}

TEST_F(TunedBundle, DocumentThatIsDamagedThoughSignedImportsNothing) {
  cache::OtherEntry damaged = choices::to_entry(test::example_document());
  damaged.entry.payload.resize(damaged.entry.payload.size() / 2);
  const auto store = test::must(cache::DiskStore::open(file("one")));
  const auto signer = test::must(cache::SigningKey::read_pem(file("key.pem")));
  test::must(cache::export_bundle(*store, test::must(cache::all_keys(*store)), file("bundle"),
                                  {.signer = &signer, .others = {&damaged, 1}}));
  go_to("two");
  expect_all_refused(import_trusted());
}

TEST_F(TunedBundle, OfTwoChoicesTheOneMeasuredLaterStays) {
  ASSERT_EQ(export_bundle().exit_code, 0);
  choices::Document newer(test::example_gpu());
  newer.put(test::example_entry(4096, "2027-01-01T00:00:00Z"));
  newer.put(test::example_entry(1024));
  test::must(tuned("two").add(newer));
  go_to("two");
  ASSERT_EQ(import_bundle({"--allow-unsigned"}).exit_code, 0);
  const choices::Document merged = tuned("two").read_own(test::example_gpu());
  EXPECT_EQ(merged.entries().size(), 3U);
  const choices::Entry* kept = merged.find(test::example_spec(4096));
  ASSERT_NE(kept, nullptr);
  EXPECT_EQ(kept->conditions.measured, "2027-01-01T00:00:00Z");
  EXPECT_EQ(tuned_text("one"), choices::write_document(test::example_document()));
}

TEST_F(TunedBundle, OptionsChooseWhetherChoicesGoIn) {
  EXPECT_EQ(export_bundle({"--no-tuned"}).json()["tuned_documents"], 0);
  EXPECT_EQ(export_bundle({keys_[0]}).json()["tuned_documents"], 0);
  EXPECT_EQ(export_bundle({"--target", "sm_80"}).json()["tuned_documents"], 0);
  EXPECT_EQ(export_bundle({"--target", "sm_90a", "--no-tuned"}).exit_code, 1);
  const Outcome only = export_bundle({"--target", "sm_90a"});
  EXPECT_EQ(only.exit_code, 0) << only.errors;
  EXPECT_EQ(only.json()["entries"], 0);
  EXPECT_EQ(only.json()["tuned_documents"], 1);
  go_to("two");
  EXPECT_EQ(import_bundle({"--allow-unsigned"}).exit_code, 0);
  EXPECT_EQ(kernels_in_cache(program_), 0U);
  EXPECT_EQ(tuned_text("two"), tuned_text("one"));
}

TEST_F(TunedBundle, DamagedDocumentIsLeftOutAndThatIsAFailure) {
  write_file(tuned("one").path_of(test::example_gpu()), "{");
  const Outcome outcome = export_bundle();
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.json()["entries"], 2);
  EXPECT_EQ(outcome.json()["tuned_documents"], 0);
  EXPECT_EQ(outcome.json()["left_out"].size(), 1U);
  EXPECT_THAT(outcome.errors, HasSubstr("example-gpu-80gb-132.v1.json"));
}

TEST_F(TunedBundle, DocumentThatGotAmongTheKernelsIsNoDamage) {
  const cache::OtherEntry document = choices::to_entry(test::example_document());
  const auto store = test::must(cache::DiskStore::open(file("one")));
  test::must(store->put(document.key, document.entry));
  const Outcome verified = program_.run({"cache", "verify", "--repair", "--json"});
  EXPECT_EQ(verified.exit_code, 0) << verified.output;
  EXPECT_EQ(verified.json()["other_version"], 1);
  const Outcome listed = program_.run({"cache", "ls", "--json"});
  EXPECT_EQ(listed.exit_code, 0);
  EXPECT_EQ(listed.json()["kernels"].size(), 2U);
  EXPECT_EQ(listed.json()["damaged"], 0);
  EXPECT_THAT(program_.run({"cache", "show", document.key.hex()}).errors, HasSubstr("schema"));
  const Outcome exported = export_bundle();
  EXPECT_EQ(exported.exit_code, 0) << exported.errors;
  EXPECT_EQ(exported.json()["entries"], 2);
}

}  // namespace
}  // namespace lutsmith::tests
