#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "lutsmith/cache.h"

namespace lutsmith {
namespace {

/// Samples by name and labels; checks that every line is of the format and every name is described once.
std::map<std::string, double> parse(const std::string& text) {
  std::map<std::string, double> samples;
  std::set<std::string> described;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first;
    std::string second;
    words >> first >> second;
    if (first == "#") {
      std::string name;
      words >> name;
      EXPECT_TRUE(second == "HELP" || second == "TYPE") << line;
      if (second == "HELP") {
        EXPECT_TRUE(described.insert(name).second) << "twice: " << line;
      }
      continue;
    }
    EXPECT_TRUE(described.contains(first.substr(0, first.find('{')))) << line;
    EXPECT_TRUE(samples.emplace(first, std::stod(second)).second) << line;
  }
  return samples;
}

TEST(Prometheus, EveryCounterHasItsSample) {
  ServiceStatistics statistics;
  // As many different numbers as there are counters; a struct of nothing but counters and two times.
  static_assert(sizeof statistics == 16 * sizeof(std::uint64_t) + 2 * sizeof(double));
  auto* counters = reinterpret_cast<std::uint64_t*>(&statistics);
  for (std::uint64_t i = 0; i < 16; ++i) counters[i] = 100 + i;
  statistics.compile_seconds = 1.5;
  statistics.wait_seconds = 0.25;
  const auto samples = parse(to_prometheus(statistics));
  std::set<double> values;
  for (const auto& [name, value] : samples) values.insert(value);
  EXPECT_EQ(samples.size(), 18U);
  EXPECT_EQ(values.size(), 18U) << "none is shown twice";
  EXPECT_EQ(samples.at("lutsmith_hits_total{tier=\"memory\"}"), static_cast<double>(statistics.memory_hits));
  EXPECT_EQ(samples.at("lutsmith_hits_total{tier=\"remote\"}"), static_cast<double>(statistics.remote_hits));
  EXPECT_EQ(samples.at("lutsmith_compiles_total"), static_cast<double>(statistics.compiles));
  EXPECT_EQ(samples.at("lutsmith_compile_seconds_total"), 1.5);
}

}  // namespace
}  // namespace lutsmith
