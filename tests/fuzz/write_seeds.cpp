// fuzz_seeds DIRECTORY: writes the seeds of each fuzz target into a folder of its name there.

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "seeds.h"

namespace {

bool write_seeds(const std::filesystem::path& folder, const lutsmith::fuzz::Seeds& seeds) {
  std::filesystem::create_directories(folder);
  for (const auto& [name, bytes] : seeds) {
    std::ofstream file(folder / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds DIRECTORY\n");
    return 2;
  }
  const std::filesystem::path directory = argv[1];
  if (write_seeds(directory / "entry", lutsmith::fuzz::entry_seeds()) &&
      write_seeds(directory / "bundle", lutsmith::fuzz::bundle_seeds())) {
    return 0;
  }
  std::fprintf(stderr, "fuzz_seeds: cannot write below %s\n", argv[1]);
  return 1;
}
