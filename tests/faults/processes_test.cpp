// Faults 1 to 9: many processes, one cache.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <random>
#include <system_error>
#include <thread>

#include "failing_rename.h"
#include "processes.h"
#include "stack.h"

namespace lutsmith {
namespace {

using std::chrono::milliseconds;

using ProcessFaults = FaultTest;

/// The other hosts of a network file system: no lock reaches them.
class WithoutLocks final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  std::unique_ptr<cache::Claim> claim(const cache::Key&, milliseconds) override { return nullptr; }
};

/// Waits until the first compile, of whichever process, has been counted: the file is there a little before.
void wait_for_compile(const std::filesystem::path& count) {
  std::error_code missing;
  while (std::filesystem::file_size(count, missing) == 0 || missing) {
    std::this_thread::sleep_for(milliseconds(1));
  }
}

TEST_F(ProcessFaults, Case01SixtyFourProcessesCompileAHundredColdKernelsOnceEach) {
  constexpr int kProcesses = 64;
  constexpr int kKernels = 100;
  Processes processes;
  for (int process = 0; process < kProcesses; ++process) {
    processes.start([&] {
      const auto kernels = provider({.compile_time = milliseconds(200)});
      for (int i = 0; i < kKernels; ++i) {
        // Two processes each begin at the same kernel, so that they meet and yet share the work.
        if (!is_right(*kernels, (process / 2 * 3 + i) % kKernels)) return 1;
      }
      return 0;
    });
  }
  EXPECT_EQ(processes.successes(), kProcesses);
  EXPECT_EQ(compiles(), kKernels);
}

TEST_F(ProcessFaults, Case02LoserThatCannotSeeTheWinnersFileUsesItsOwnBytes) {
  // What is published shows for nobody, and a second publisher is refused.
  class Invisible final : public ForwardingStore {
   public:
    using ForwardingStore::ForwardingStore;
    Result<cache::Lookup> get(const cache::Key&) override {
      ++gets;
      return cache::Lookup{};
    }
    int gets = 0;
  };
  Invisible* store = nullptr;
  const auto kernels = provider({.wrap = [&](std::unique_ptr<cache::Store> real) {
    auto wrapped = std::make_unique<Invisible>(std::move(real));
    store = wrapped.get();
    return wrapped;
  }});
  ASSERT_TRUE(provider()->compile(request(0)).has_value());  // the winner
  EXPECT_TRUE(is_right(*kernels, 0));
  EXPECT_EQ(store->gets, 2) << "before the claim and after it; not after publishing";
  EXPECT_TRUE(is_right(*kernels, 0));
  EXPECT_EQ(store->gets, 2);
}

TEST_F(ProcessFaults, Case03HostsWithoutACommonLockAreStillRight) {
  constexpr int kProcesses = 64;
  constexpr int kKernels = 10;
  Processes processes;
  for (int process = 0; process < kProcesses; ++process) {
    processes.start([&] {
      const auto kernels =
          provider({.compile_time = milliseconds(5), .wrap = [](std::unique_ptr<cache::Store> real) {
                      return std::make_unique<WithoutLocks>(std::move(real));
                    }});
      for (int i = 0; i < kKernels; ++i) {
        if (!is_right(*kernels, i)) return 1;
      }
      return 0;
    });
  }
  EXPECT_EQ(processes.successes(), kProcesses);
  EXPECT_GE(compiles(), kKernels);
  const int before = compiles();
  const auto later = provider();
  for (int i = 0; i < kKernels; ++i) EXPECT_TRUE(is_right(*later, i));
  EXPECT_EQ(compiles(), before) << "all that they left is good";
  EXPECT_THAT(files(".tmp."), testing::IsEmpty());
}

TEST_F(ProcessFaults, Case04HolderThatIsKilledCostsOneMoreCompile) {
  Processes processes;
  processes.start([&] { return is_right(*provider({.compile_time = std::chrono::hours(1)}), 0) ? 0 : 1; });
  wait_for_compile(directory_.path() / "count");
  processes.start([&] { return is_right(*provider(), 0) ? 0 : 1; });
  processes.kill_first();
  EXPECT_EQ(processes.successes(), 1);
  EXPECT_EQ(compiles(), 2);
  EXPECT_EQ(provider()->compile(request(0))->origin, Origin::disk);
}

TEST_F(ProcessFaults, Case04ProcessesKilledAtRandomPointsLeaveNothingThatHarmsTheOthers) {
  constexpr int kProcesses = 64;
  constexpr int kKernels = 40;
  const auto work = [&](int process) {
    const auto kernels = provider({.compile_time = milliseconds(3)});
    for (int i = 0; i < kKernels; ++i) {
      if (!is_right(*kernels, (process + i) % kKernels)) return 1;
    }
    return 0;
  };
  std::vector<pid_t> doomed;
  Processes survivors;
  for (int process = 0; process < kProcesses; ++process) {
    if (process % 2 == 0) {
      survivors.start([&] { return work(process); });
      continue;
    }
    const pid_t child = fork();
    if (child == 0) {
      while (true) {  // over and over on an emptied memory, until it is killed
        if (work(process) != 0) _exit(1);
        std::error_code ignored;
        for (const auto& file : files(".lutk")) std::filesystem::remove(file, ignored);
      }
    }
    doomed.push_back(child);
  }
  std::mt19937 random(4);
  for (const pid_t child : doomed) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "it got a wrong kernel before it was killed";
  }
  EXPECT_EQ(survivors.successes(), kProcesses / 2);
  const auto later = provider();
  for (int i = 0; i < kKernels; ++i) EXPECT_TRUE(is_right(*later, i));
  EXPECT_THAT(files(".bad"), testing::IsEmpty()) << "no half an entry was ever published";
}

TEST_F(ProcessFaults, Case05HolderThatHangsIsWaitedForAndThenLeftBehind) {
  const pid_t holder = fork();
  if (holder == 0) _exit(is_right(*provider({.compile_time = std::chrono::hours(1)}), 0) ? 0 : 1);
  wait_for_compile(directory_.path() / "count");
  kill(holder, SIGSTOP);
  {
    const auto waiter = provider({.longest_wait = milliseconds(100)});
    EXPECT_TRUE(is_right(*waiter, 0));
    EXPECT_EQ(waiter->statistics().waits, 1U);
    EXPECT_GE(waiter->statistics().wait_seconds, 0.1);
    EXPECT_EQ(waiter->statistics().compiles, 1U);
  }
  EXPECT_EQ(provider()->compile(request(0))->origin, Origin::disk) << "published all the same";
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
}

TEST_F(ProcessFaults, Case06LockFileThatIsDeletedCostsCompilesOnly) {
  constexpr int kProcesses = 16;
  constexpr int kKernels = 20;
  Processes processes;
  for (int process = 0; process < kProcesses; ++process) {
    processes.start([&] {
      const auto kernels = provider({.compile_time = milliseconds(10)});
      for (int i = 0; i < kKernels; ++i) {
        if (!is_right(*kernels, i)) return 1;
      }
      return 0;
    });
  }
  while (compiles() < kKernels) {
    std::filesystem::remove(root() / "v1" / "lock");
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_EQ(processes.successes(), kProcesses);
  EXPECT_TRUE(is_right(*provider(), 0));
}

TEST_F(ProcessFaults, Case06NobodyDeletesTheLockFile) {
  ASSERT_TRUE(is_right(*provider(), 0));
  struct stat before{};
  ASSERT_EQ(stat((root() / "v1" / "lock").c_str(), &before), 0);
  Processes processes;
  processes.start([&] { return is_right(*provider(), 1) ? 0 : 1; });
  EXPECT_EQ(processes.successes(), 1);
  struct stat after{};
  ASSERT_EQ(stat((root() / "v1" / "lock").c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_F(ProcessFaults, Case07ReaderThatMeetsARebuildSeesOneEntryOrTheOther) {
  constexpr int kReaders = 16;
  ASSERT_TRUE(is_right(*provider(), 0));
  const Signal done;
  Processes readers;
  for (int reader = 0; reader < kReaders; ++reader) {
    readers.start([&] {
      for (int i = 0; i < 200; ++i) {
        const auto kernels = provider({.policy = CompilePolicy::never});
        if (!is_right(*kernels, 0) || kernels->statistics().repairs > 0) return 1;
      }
      return 0;
    });
  }
  Processes writers;
  for (int writer = 0; writer < 4; ++writer) {
    writers.start([&] {
      // Reads nothing, so that it compiles and replaces every time.
      class Blind final : public ForwardingStore {
       public:
        using ForwardingStore::ForwardingStore;
        Result<cache::Lookup> get(const cache::Key&) override { return cache::Lookup{}; }
      };
      for (int i = 0; i < 100; ++i) {
        const auto kernels = provider({.wrap = [](std::unique_ptr<cache::Store> real) {
          return std::make_unique<Blind>(std::move(real));
        }});
        if (!is_right(*kernels, 0)) return 1;
      }
      return 0;
    });
  }
  EXPECT_EQ(writers.successes(), 4);
  EXPECT_EQ(readers.successes(), kReaders);
}

TEST_F(ProcessFaults, Case08BusyOrStaleAfterPublishingIsSuccess) {
  for (const int error : {EBUSY, ESTALE}) {
    const FailingRename failing(error);
    const auto kernels = provider();
    EXPECT_TRUE(is_right(*kernels, error));
    EXPECT_TRUE(is_right(*kernels, error));
  }
  EXPECT_THAT(warnings(), testing::IsEmpty());
  EXPECT_THAT(files(".tmp."), testing::IsEmpty());
}

TEST_F(ProcessFaults, Case08OtherFaultsOfPublishingAreToldOnceAndServedFromMemory) {
  const FailingRename failing(EIO);
  const auto kernels = provider();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(is_right(*kernels, i));
  EXPECT_EQ(warnings().size(), 1U);
  EXPECT_THAT(files(".tmp."), testing::IsEmpty());
}

TEST_F(ProcessFaults, Case09ForkAfterOpeningIsAClearErrorAndANewServiceWorks) {
  ServiceOptions options;
  options.cache_directory = root();
  Result<Service> parents = Service::open(options);
  ASSERT_TRUE(parents.has_value()) << parents.error().message;
  const KernelSpec spec{.format = {.n = 64, .k = 128}, .m = 1, .target = *Target::parse("sm_90a")};
  ASSERT_TRUE(parents->compile(spec).has_value());
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);
    const auto refused = parents->compile(spec);
    const bool told = !refused && refused.error().message.contains("forked");
    Result<Service> own = Service::open(options);
    const auto found = own ? own->compile(spec) : Result<CompileResult>(std::unexpected(own.error()));
    {
      const Service gone = *std::move(parents);
    }  // its end must not wait for threads that are not here
    _exit(told && found && found->origin == Origin::disk ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(parents->compile(spec).has_value());
}

}  // namespace
}  // namespace lutsmith
