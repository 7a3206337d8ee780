#pragma once

#include <cstdint>
#include <filesystem>

namespace lutsmith {

/// Memory to set aside for each compile, in bytes. NVRTC 13.0 takes 13 MB more for each kernel it compiles at
/// the same time as others (`warm` of 12 kernels: 94 MB with one job, 176 MB with eight); the rest is for
/// kernels nobody has thought of yet.
inline constexpr std::uint64_t kCompileBytes = std::uint64_t{64} << 20;

/// What limits how many compiles may run at once.
struct CompileResources {
  unsigned cores = 1;        ///< that this process may use
  std::uint64_t memory = 0;  ///< bytes it may still take
};

/// Of this process: its affinity mask, the machine's available memory, and the limits of its control group
/// and those above it, such as a container sets (version 2; of version 1 that of memory). The folders are
/// other ones in tests.
CompileResources compile_resources(const std::filesystem::path& proc = "/proc",
                                   const std::filesystem::path& groups = "/sys/fs/cgroup");

/// How many compiles to run at once; at least one.
unsigned compile_jobs(const CompileResources& resources);

}  // namespace lutsmith
