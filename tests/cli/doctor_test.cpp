#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "servers.h"
#include "small_kernels.h"

namespace lutsmith::tests {
namespace {

using testing::HasSubstr;

TEST(Doctor, NamesCompilerDriverAndCache) {
  const CommandLine program;
  const Outcome json = program.run({"doctor", "--json"});
  ASSERT_EQ(json.exit_code, 0) << json.errors;
  const auto report = json.json();
  EXPECT_TRUE(report["compiler"]["ok"]);
  EXPECT_TRUE(report["compiler"]["version"].is_string());
  EXPECT_TRUE(report["driver"]["ok"].is_boolean());
  EXPECT_TRUE(report["gpus"].is_array());
  EXPECT_TRUE(report["cache"]["ok"]);
  EXPECT_EQ(report["cache"]["entries"], 0);
  const Outcome text = program.run({"doctor"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.output, testing::AllOf(HasSubstr("compiler"), HasSubstr("driver"), HasSubstr("gpu"),
                                          HasSubstr("cache")));
}

TEST(Doctor, CountsWhatIsInTheCache) {
  const CommandLine program;
  ASSERT_EQ(program.run({"compile", "--n", "64", "--k", "64", "--m", "1", "--target", "sm_80"}).exit_code, 0);
  EXPECT_EQ(program.run({"doctor", "--json"}).json()["cache"]["entries"], 1);
}

TEST(Doctor, WithoutACompilerFailsAndSaysWhatToDo) {
  CommandLine program;
  program.set_environment("LUTSMITH_NVRTC", program.file("no-such-compiler.so"));
  const Outcome outcome = program.run({"doctor"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output, testing::AllOf(HasSubstr("no-such-compiler.so"), HasSubstr("LUTSMITH_NVRTC")));
  EXPECT_FALSE(program.run({"doctor", "--json"}).json()["compiler"]["ok"]);
}

TEST(Doctor, AsksACompilerToCompileBeforeItCallsItGood) {
  CommandLine program;
  const auto compiler = program.run({"doctor", "--json"}).json()["compiler"];
  EXPECT_TRUE(compiler["ok"]);
  EXPECT_TRUE(compiler["found_by"].is_string());

  // A library of the right kind that is cut off: an error, not the end of the process.
  const std::string whole = read_file(compiler["library"].get<std::string>());
  write_file(program.file("libnvrtc.so.13"), whole.substr(0, whole.size() * 3 / 4));
  program.set_environment("LUTSMITH_NVRTC", program.file("libnvrtc.so.13"));
  const Outcome cut = program.run({"doctor"});
  EXPECT_EQ(cut.exit_code, 1) << cut.output;
  EXPECT_THAT(cut.output, HasSubstr("it is cut off"));
}

TEST(Doctor, LibrariesOfTheLoadersPathThatAreCutOffDoNotEndTheProgram) {
  CommandLine program;
  const auto compiler = program.run({"doctor", "--json"}).json()["compiler"];
  const std::string whole = read_file(compiler["library"].get<std::string>());
  for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"}) {
    write_file(program.file(name), whole.substr(0, whole.size() * 3 / 4));
  }
  const std::string driver = read_file(FAKE_DRIVER);
  write_file(program.file("libcuda.so.1"), driver.substr(0, driver.size() * 3 / 4));
  program.set_environment("LD_LIBRARY_PATH", program.directory());
  const Outcome outcome = program.run({"doctor", "--json"});
  ASSERT_TRUE(outcome.exit_code == 0 || outcome.exit_code == 1) << outcome.errors;
  const auto report = outcome.json();
  EXPECT_EQ(report["compiler"]["ok"], outcome.exit_code == 0);  // there may be another
  EXPECT_THAT(report["driver"]["error"]["message"].get<std::string>(),
              testing::AllOf(HasSubstr(program.file("libcuda.so.1").string()), HasSubstr("it is cut off")));
}

TEST(Doctor, DriverThatCannotBeUsedIsToldWithItsPlaceAndInTheSameWordsByOtherVerbs) {
  CommandLine program;
  const std::filesystem::path driver = program.file("libcuda.so.1");
  std::filesystem::copy_file(FAKE_DRIVER, driver);
  program.set_environment("LD_LIBRARY_PATH", program.directory());
  for (const auto& [status, words] :
       {std::pair("803", "NVIDIA module"), std::pair("804", "cuda-compat"), std::pair("100", "finds no GPU"),
        std::pair("34", "stub of a CUDA toolkit")}) {
    program.set_environment("FAKE_DRIVER_INIT", status);
    const auto found = program.run({"doctor", "--json"}).json()["driver"];
    EXPECT_FALSE(found["ok"]) << found;
    const auto message = found["error"]["message"].get<std::string>();
    EXPECT_THAT(message, testing::AllOf(HasSubstr(words), HasSubstr(driver.string())));
    const Outcome compile = program.run({"compile", "--n", "64", "--k", "64"});
    EXPECT_EQ(compile.exit_code, 2);
    EXPECT_THAT(compile.errors, HasSubstr(message));
  }
}

TEST(Doctor, WarnsOfACompilerThatIsNewerThanTheDriver) {
  CommandLine program;
  std::filesystem::copy_file(FAKE_DRIVER, program.file("libcuda.so.1"));
  program.set_environment("LD_LIBRARY_PATH", program.directory());
  const auto compiler = program.run({"doctor", "--json"}).json()["compiler"];
  const int major = std::stoi(compiler["version"].get<std::string>());
  const auto driver_of = [&](int version) {
    program.set_environment("FAKE_DRIVER_VERSION", std::to_string(version));
    return program.run({"doctor", "--json"}).json()["driver"];
  };
  const auto same = driver_of(1000 * major);
  EXPECT_TRUE(same["ok"]) << same;
  EXPECT_FALSE(same.contains("advice")) << same;
  EXPECT_EQ(same["library"], std::filesystem::canonical(program.file("libcuda.so.1")).string());
  if (major < 13) GTEST_SKIP() << "NVRTC " << major << " is found: no older driver than it is allowed";
  const auto older = driver_of(12080);
  EXPECT_THAT(older["advice"].get<std::string>(), HasSubstr("may not load on it"));
}

TEST(Doctor, VariablesThatNothingReadsAreNamedWithWhatWasMeant) {
  CommandLine program;
  program.set_environment("LUTSMITH_CACHE_DIRR", "/tmp");
  program.set_environment("LUTSMITH_COMPILE", "maybe");
  const Outcome json = program.run({"doctor", "--json"});
  EXPECT_EQ(json.exit_code, 0);
  ASSERT_EQ(json.json()["wrong_settings"].size(), 2U) << json.output;
  EXPECT_THAT(program.run({"doctor"}).output, testing::AllOf(HasSubstr("LUTSMITH_CACHE_DIRR: nothing reads"),
                                                             HasSubstr("was LUTSMITH_CACHE_DIR meant?"),
                                                             HasSubstr("LUTSMITH_COMPILE: 'maybe'")));
}

TEST(Doctor, NamesTheHostCompilerOrWhatItWouldBeFor) {
  CommandLine program;
  EXPECT_THAT(program.run({"doctor"}).output, HasSubstr("--emulate"));
  const auto found = program.run({"doctor", "--json"}).json()["emulator"];
  EXPECT_TRUE(found["ok"]);
  EXPECT_TRUE(std::filesystem::exists(found["host_compiler"].get<std::string>()));

  program.set_environment("LUTSMITH_HOST_CXX", "/nonexistent");
  const Outcome text = program.run({"doctor"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.output, testing::AllOf(HasSubstr("LUTSMITH_HOST_CXX"), HasSubstr("run --emulate")));
  const auto missing = program.run({"doctor", "--json"}).json()["emulator"];
  EXPECT_FALSE(missing["ok"]);
  EXPECT_THAT(missing["error"]["message"].get<std::string>(), HasSubstr("/nonexistent"));
}

TEST(Doctor, ACacheThatCannotBeUsedIsToldAndIsNoFailure) {
  CommandLine program;
  write_file(program.file("file"), "");
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("file"));
  const Outcome outcome = program.run({"doctor", "--json"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_FALSE(outcome.json()["cache"]["ok"]);
  EXPECT_THAT(outcome.json()["cache"]["advice"].get<std::string>(), HasSubstr("LUTSMITH_CACHE_DIR"));
}

TEST(Doctor, LimitsAreShown) {
  CommandLine program;
  program.set_environment("LUTSMITH_CACHE_MAX_BYTES", "500M");
  const Outcome json = program.run({"doctor", "--json"});
  EXPECT_EQ(json.json()["cache"]["limits"]["bytes"], 500 << 20);
  EXPECT_EQ(json.json()["cache"]["limits"]["entries"], 100000);
  EXPECT_THAT(program.run({"doctor"}).output, HasSubstr("at most 500.0 MiB and 100000 kernels"));
}

TEST(Doctor, SettingsThatMakeNoSenseAreNamedAndTheCacheIsNotBlamed) {
  CommandLine program;
  program.set_environment("LUTSMITH_CACHE_MAX_BYTES", "much");
  program.set_environment("LUTSMITH_CACHE_MAX_ENTRIES", "-3");
  const Outcome json = program.run({"doctor", "--json"});
  EXPECT_EQ(json.exit_code, 0);
  EXPECT_TRUE(json.json()["cache"]["ok"]);
  ASSERT_EQ(json.json()["wrong_settings"].size(), 2U) << json.output;
  EXPECT_THAT(program.run({"doctor"}).output, testing::AllOf(HasSubstr("LUTSMITH_CACHE_MAX_BYTES: 'much'"),
                                                             HasSubstr("LUTSMITH_CACHE_MAX_ENTRIES: '-3'")));
}

TEST(Doctor, SystemDirectoriesAreShownWithWhatIsWrongWithThem) {
  CommandLine program;
  std::filesystem::create_directory(program.file("public"));
  std::filesystem::permissions(program.file("public"), std::filesystem::perms::all);
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("image"));
  fill_cache(program, "2");
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("own"));
  program.set_environment("LUTSMITH_CACHE_PATH", program.file("image").string() + ":" +
                                                     program.file("missing").string() + ":" +
                                                     program.file("public").string());
  const auto report = program.run({"doctor", "--json"}).json();
  const auto& directories = report["system_directories"];
  ASSERT_EQ(directories.size(), 3U);
  EXPECT_TRUE(directories[0]["ok"]);
  EXPECT_EQ(directories[0]["entries"], 1);
  EXPECT_FALSE(directories[1]["ok"]);
  EXPECT_EQ(directories[1]["directory"], program.file("missing").string());
  EXPECT_FALSE(directories[2]["ok"]);
  EXPECT_THAT(directories[2]["error"]["message"].get<std::string>(), HasSubstr("chmod 700"));
  EXPECT_THAT(program.run({"doctor"}).output, HasSubstr("LUTSMITH_CACHE_PATH names it"));
}

TEST(Doctor, AsksTheRemoteCacheAndKeepsItsPasswordToItself) {
  const auto remote_of = [](const std::string& url) {
    CommandLine program;
    program.set_environment("LUTSMITH_REMOTE_CACHE", url);
    const Outcome outcome = program.run({"doctor", "--json"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
    EXPECT_FALSE(outcome.output.contains("secret")) << outcome.output;
    return outcome.json()["remote"];
  };
  const FaultServer cache([](const HttpRequest&) { return HttpReply{.status = 404}; });
  const std::string host = cache.url().substr(cache.url().find("://") + 3);
  const auto answering = remote_of("http://user:secret@" + host);
  EXPECT_TRUE(answering["ok"]);
  EXPECT_EQ(answering["url"], "http://" + host);
  EXPECT_FALSE(answering["read_only"]);

  const FaultServer web_page([](const HttpRequest&) { return HttpReply{.body = "welcome"}; });
  EXPECT_FALSE(remote_of(web_page.url())["ok"]) << "it answers everything, so it is no cache";
  const FaultServer guarded([](const HttpRequest&) { return HttpReply{.status = 403}; });
  EXPECT_THAT(remote_of(guarded.url())["error"]["message"].get<std::string>(), HasSubstr("token"));
  EXPECT_FALSE(remote_of(fmt::format("http://user:secret@127.0.0.1:{}", free_port()))["ok"]);
  const auto wrong = remote_of("ftp://user:secret@127.0.0.1");
  EXPECT_EQ(wrong["error"]["code"], "invalid_argument");
  EXPECT_THAT(wrong["advice"].get<std::string>(), HasSubstr("LUTSMITH_REMOTE_CACHE"));
}

}  // namespace
}  // namespace lutsmith::tests
