#include "small_kernels.h"

#include <gtest/gtest.h>

#include <chrono>

namespace lutsmith::tests {

std::vector<std::string> small_kernels(const std::string& verb, const std::string& bits,
                                       std::vector<std::string> more) {
  std::vector<std::string> arguments{verb, "--bits", bits, "--n", "64", "--k", "128", "--target", "sm_80"};
  if (verb == "warm") arguments.insert(arguments.end(), {"--m", "1"});  // else every number of tokens
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::vector<std::string> fill_cache(const CommandLine& program, const std::string& bits) {
  const Outcome outcome = program.run(small_kernels("warm", bits, {"--json"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  std::vector<std::string> keys;
  const auto report = outcome.json();
  for (const auto& kernel : report["kernels"]) keys.push_back(kernel["key"]);
  return keys;
}

std::string outcome_of_compiling(const CommandLine& program, const std::string& bits) {
  const Outcome outcome = program.run(small_kernels("compile", bits, {"--json"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  return outcome.json()["cache"];
}

std::filesystem::path entry_file(const std::filesystem::path& cache, const std::string& key) {
  return cache / "v1" / key.substr(0, 2) / (key + ".lutk");
}

void flip_byte(const std::filesystem::path& file, std::size_t offset) {
  std::string bytes = read_file(file);
  ASSERT_LT(offset, bytes.size()) << file;
  bytes[offset] = static_cast<char>(bytes[offset] ^ 0x40);
  write_file(file, bytes);
}

void set_last_used(const std::filesystem::path& file, std::chrono::minutes ago) {
  std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - ago);
}

std::size_t kernels_in_cache(const CommandLine& program) {
  const Outcome outcome = program.run({"cache", "stats", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  return outcome.json()["entries"];
}

}  // namespace lutsmith::tests
