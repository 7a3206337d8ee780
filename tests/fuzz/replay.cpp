#include "replay.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

#include "harness.h"

namespace lutsmith::fuzz {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void replay(const std::string& name, const void* data, std::size_t size) {
  std::printf("%s, %zu bytes\n", name.c_str(), size);
  std::fflush(stdout);
  // Copied, so that the address sanitizer knows its end.
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  const std::vector<std::uint8_t> input(bytes, bytes + size);
  EXPECT_EQ(LLVMFuzzerTestOneInput(input.data(), input.size()), 0) << name << " is of no use to the harness";
}

}  // namespace

void replay_folder(const fs::path& folder) {
  std::error_code unreadable;
  int replayed = 0;
  for (const fs::directory_entry& file : fs::directory_iterator(folder, unreadable)) {
    const std::string bytes = read(file.path());
    replay(file.path().filename(), bytes.data(), bytes.size());
    ++replayed;
  }
  EXPECT_FALSE(unreadable) << folder << ": " << unreadable.message();
  EXPECT_GT(replayed, 0) << folder << " holds no inputs";
}

void replay_seeds(const Seeds& seeds) {
  for (const auto& [name, bytes] : seeds) replay(name, bytes.data(), bytes.size());
}

}  // namespace lutsmith::fuzz
