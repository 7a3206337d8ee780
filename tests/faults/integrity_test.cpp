// Faults 17 to 23: bytes that are not what was written, and keys that are not what was meant.

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/Support/SHA256.h>
#include <unistd.h>

#include <clocale>
#include <fstream>
#include <iterator>
#include <random>
#include <set>

#include "cache/stores/disk_store.h"
#include "fake_driver.h"
#include "processes.h"
#include "stack.h"
#include "synthetic_cubin.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

using IntegrityFaults = FaultTest;

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// A truncation, or one to eight flipped bits.
std::string damage(std::string bytes, std::mt19937& random) {
  if (random() % 2 == 0) return bytes.substr(0, random() % bytes.size());
  const std::string before = bytes;
  unsigned flips = 1 + random() % 8;
  while (flips > 0 || bytes == before) {  // two flips of one bit are none
    char& byte = bytes[random() % bytes.size()];
    byte = static_cast<char>(static_cast<unsigned char>(byte) ^ (1U << random() % 8));
    if (flips > 0) --flips;
  }
  return bytes;
}

TEST_F(IntegrityFaults, Case17TenThousandDamagedEntriesAreAllFoundAndMadeAnew) {
  constexpr int kDamages = 10'000;
  // In memory where there is such a place: entries are brought to the disk one by one otherwise.
  const fs::path memory = "/dev/shm";
  StackOptions options;
  options.service.cache_directory =
      access(memory.c_str(), W_OK) == 0 ? memory / directory_.path().filename() : root();
  const fs::path place = options.service.cache_directory;
  const auto compiled = provider(options)->compile(request(0));
  ASSERT_TRUE(compiled.has_value());
  const std::string& key = compiled->artifact->key;
  const fs::path file = place / "v1" / key.substr(0, 2) / (key + ".lutk");
  const std::string good = read_file(file);
  std::mt19937 random(17);
  int found = 0;
  int repaired = 0;
  for (int i = 0; i < kDamages; ++i) {
    write_file(file, damage(good, random));
    const auto kernels = provider(options);
    ASSERT_TRUE(is_right(*kernels, 0)) << i;
    found += static_cast<int>(kernels->statistics().repairs);
    repaired += read_file(file) == good ? 1 : 0;
  }
  EXPECT_EQ(found, kDamages);
  EXPECT_EQ(repaired, kDamages);
  EXPECT_EQ(compiles(), kDamages + 1);
  std::error_code ignored;
  if (place != root()) fs::remove_all(place, ignored);
}

TEST_F(IntegrityFaults, Case17DamagedEntryIsPutAsideAndOverwritten) {
  const std::string key = provider()->compile(request(0))->artifact->key;
  for (int i = 0; i < 3; ++i) {
    write_file(entry_file(key), "");
    EXPECT_TRUE(is_right(*provider(), 0));
    EXPECT_EQ(provider()->compile(request(0))->origin, Origin::disk);
    EXPECT_EQ(files(".bad").size(), 1U) << "kept for whoever wants to know; one for each key";
  }
}

TEST_F(IntegrityFaults, Case18KernelThatTheDriverRefusesIsMadeAnewOnceAndThenAnError) {
  void* library = dlopen(FAULT_DRIVER, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  FakeDriverState& driver =
      *reinterpret_cast<decltype(&fake_driver_state)>(dlsym(library, "fake_driver_state"))();
  ServiceOptions options;
  options.cache_directory = root();
  const KernelSpec spec{.format = {.n = 64, .k = 128}, .m = 1, .target = *Target::parse("sm_90a")};
  const auto open = [&] { return *Service::open(options); };
  ASSERT_TRUE(open().compile(spec).has_value());

  driver.module_loads_to_refuse = 1;
  Service repairing = open();
  const Result<Kernel> kernel = repairing.get(spec);
  ASSERT_TRUE(kernel.has_value()) << kernel.error().message;
  EXPECT_EQ(repairing.statistics().compiles, 1U);
  EXPECT_EQ(driver.module_loads, 2);
  EXPECT_EQ(open().compile(spec)->origin, Origin::disk) << "kept again";

  driver.module_loads = 0;
  driver.module_loads_to_refuse = 1000;
  Service failing = open();
  const Result<Kernel> refused = failing.get(spec);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("CUDA_ERROR_NO_BINARY_FOR_GPU"));
  EXPECT_EQ(driver.module_loads, 2) << "rebuilt once, no more";
}

TEST_F(IntegrityFaults, Case19TruncatedOutputOfTheCompilerIsNotPublished) {
  const auto kernels = provider({.cubin = [](Target target, const std::string& kernel) {
    std::vector<std::byte> cubin = synthetic_cubin(target, kernel);
    cubin.resize(cubin.size() / 2);
    return cubin;
  }});
  const auto compiled = kernels->compile(request(0));
  ASSERT_FALSE(compiled.has_value());
  EXPECT_EQ(compiled.error().code, ErrorCode::corrupt_data);
  EXPECT_THAT(files(".lutk"), testing::IsEmpty());
  EXPECT_TRUE(is_right(*provider(), 0)) << "forgotten";
}

TEST_F(IntegrityFaults, Case19KernelOfAnotherArchitectureOrNameIsNotPublished) {
  const auto wrong_name = provider(
      {.cubin = [](Target target, const std::string&) { return synthetic_cubin(target, "another"); }});
  EXPECT_FALSE(wrong_name->compile(request(0)).has_value());
  const auto wrong_target = provider({.cubin = [](Target, const std::string& kernel) {
    return synthetic_cubin(Target::parse("sm_80").value(), kernel);
  }});
  EXPECT_FALSE(wrong_target->compile(request(0)).has_value());
  EXPECT_THAT(files(".lutk"), testing::IsEmpty());
}

TEST_F(IntegrityFaults, Case20PatchedToolkitOfTheSameVersionMakesItsOwnKernels) {
  ASSERT_TRUE(is_right(*provider({.compiler = "nvrtc 13.0 build-id 01"}), 0));
  const auto patched = provider({.compiler = "nvrtc 13.0 build-id 02"});
  EXPECT_EQ(patched->compile(request(0))->origin, Origin::compiled);
  EXPECT_EQ(files(".lutk").size(), 2U);
}

TEST_F(IntegrityFaults, Case20TouchingFilesChangesNoKey) {
  ASSERT_TRUE(is_right(*provider(), 0));
  for (const fs::path& file : files(".lutk")) fs::last_write_time(file, fs::file_time_type::min());
  EXPECT_EQ(provider()->compile(request(0))->origin, Origin::disk);
}

TEST_F(IntegrityFaults, Case21TargetsWithAndWithoutSuffixNeverShareAKernel) {
  std::set<std::string> keys;
  const std::vector<std::string_view> names{"sm_80",   "sm_86",   "sm_89",  "sm_90a",
                                            "sm_100a", "sm_103a", "sm_120a"};
  for (const std::string_view name : names) {
    Request wanted = request(0);
    wanted.spec.target = Target::parse(name).value();
    keys.insert(provider()->compile(wanted)->artifact->key);
  }
  EXPECT_EQ(keys.size(), names.size());
  const auto key_for = [](std::string_view target) {
    return cache::Key::of({.source = "s", .options = "o", .compiler = "c", .target = target});
  };
  EXPECT_NE(key_for("sm_90"), key_for("sm_90a"));
}

TEST_F(IntegrityFaults, Case22TwoProcessesAgreeOnEveryKey) {
  // Keys from the real generator; what could differ between processes is order in hash tables, addresses,
  // locale.
  const auto keys_of = [](const fs::path& file, const char* locale) {
    setenv("LC_ALL", locale, 1);  // NOLINT(concurrency-mt-unsafe): the only thread
    std::setlocale(LC_ALL, "");   // NOLINT(concurrency-mt-unsafe)
    std::ofstream out(file);
    for (const int bits : {2, 3, 4}) {
      for (const std::int64_t m : {1, 16}) {
        const KernelSpec spec{
            .format = {.bits = bits, .n = 4096, .k = 14336}, .m = m, .target = *Target::parse("sm_90a")};
        const std::vector<Schedule> candidates = schedules(spec).value();
        for (const Schedule& schedule : candidates) {
          out << cache::Key::of({.source = render(spec, schedule).value().text,
                                 .options = "o",
                                 .compiler = "c",
                                 .target = spec.target.name()})
                     .hex();
        }
      }
    }
    return 0;
  };
  Processes processes;
  processes.start([&] { return keys_of(directory_.path() / "a", "C"); });
  processes.start([&] { return keys_of(directory_.path() / "b", "de_DE.UTF-8"); });
  ASSERT_EQ(processes.successes(), 2);
  EXPECT_FALSE(read_file(directory_.path() / "a").empty());
  EXPECT_EQ(read_file(directory_.path() / "a"), read_file(directory_.path() / "b"));
}

TEST_F(IntegrityFaults, Case23EntryOfANewerVersionIsAMissAndLeftAlone) {
  const std::string key = provider()->compile(request(0))->artifact->key;
  // Any later version: magic, a larger number, and the digest at the end.
  std::string newer("LUTSMITH\x63\0\0\0 of the future", 26);
  const auto digest =
      llvm::SHA256::hash(llvm::ArrayRef(reinterpret_cast<const std::uint8_t*>(newer.data()), newer.size()));
  newer.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  write_file(entry_file(key), newer);
  EXPECT_TRUE(is_right(*provider(), 0));
  EXPECT_EQ(read_file(entry_file(key)), newer);
}

}  // namespace
}  // namespace lutsmith
