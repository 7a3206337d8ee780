#include "runtime/compile_jobs.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

namespace lutsmith {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc{}) return std::nullopt;
  return value;
}

/// The number a file begins with; nothing where there is no file or it says "max".
std::optional<std::uint64_t> number_in(const fs::path& file) {
  std::string word;
  std::ifstream(file) >> word;
  return number(word);
}

/// The number behind a name in a file of lines "name number".
std::optional<std::uint64_t> number_after(const fs::path& file, std::string_view name) {
  std::ifstream lines(file);
  std::string word;
  while (lines >> word) {
    if (word == name && lines >> word) return number(word);
  }
  return std::nullopt;
}

unsigned cores_in_affinity_mask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) return static_cast<unsigned>(CPU_COUNT(&mask));
  return std::max(1U, std::thread::hardware_concurrency());
}

/// What one control group leaves. Files that it keeps in memory it can drop, so they do not count.
std::uint64_t memory_left(std::optional<std::uint64_t> limit, std::optional<std::uint64_t> used,
                          std::optional<std::uint64_t> files) {
  if (!limit || !used) return kNoLimit;
  const std::uint64_t needed = *used - std::min(*used, files.value_or(0));
  return *limit - std::min(*limit, needed);
}

std::uint64_t memory_left_v2(const fs::path& group) {
  return memory_left(number_in(group / "memory.max"), number_in(group / "memory.current"),
                     number_after(group / "memory.stat", "inactive_file"));
}

std::uint64_t memory_left_v1(const fs::path& group) {
  return memory_left(number_in(group / "memory.limit_in_bytes"), number_in(group / "memory.usage_in_bytes"),
                     number_after(group / "memory.stat", "total_inactive_file"));
}

/// Cores a group may keep busy: quota over period, at least one.
unsigned cores_v2(const fs::path& group) {
  std::ifstream file(group / "cpu.max");
  std::string quota;
  std::uint64_t period = 0;
  if (!(file >> quota >> period) || !number(quota) || period == 0)
    return std::numeric_limits<unsigned>::max();
  return static_cast<unsigned>(std::max<std::uint64_t>(1, *number(quota) / period));
}

/// Calls `look(folder)` for a group and all above it.
template <class Look>
void walk_up(const fs::path& root, std::string_view group, Look&& look) {
  fs::path folder = root;
  look(folder);
  for (const fs::path& part : fs::path(group).relative_path()) {
    folder /= part;
    look(folder);
  }
}

}  // namespace

CompileResources compile_resources(const fs::path& proc, const fs::path& groups) {
  CompileResources found{.cores = std::max(1U, cores_in_affinity_mask()), .memory = kNoLimit};
  if (const auto kilobytes = number_after(proc / "meminfo", "MemAvailable:")) {
    found.memory = *kilobytes * 1024;
  }
  // Lines of "number:controllers:group"; version 2 has number 0 and names no controller.
  std::ifstream memberships(proc / "self" / "cgroup");
  for (std::string line; std::getline(memberships, line);) {
    const std::string_view text = line;
    const std::size_t first = text.find(':');
    if (first == std::string_view::npos) continue;
    const std::size_t second = text.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = text.substr(first + 1, second - first - 1);
    const std::string_view group = text.substr(second + 1);
    if (controllers.empty()) {
      walk_up(groups, group, [&](const fs::path& folder) {
        found.memory = std::min(found.memory, memory_left_v2(folder));
        found.cores = std::min(found.cores, cores_v2(folder));
      });
    } else if (controllers.contains("memory")) {
      walk_up(groups / "memory", group,
              [&](const fs::path& folder) { found.memory = std::min(found.memory, memory_left_v1(folder)); });
    }
  }
  return found;
}

unsigned compile_jobs(const CompileResources& resources) {
  const std::uint64_t fit = std::max<std::uint64_t>(1, resources.memory / kCompileBytes);
  return static_cast<unsigned>(std::min<std::uint64_t>(std::max(1U, resources.cores), fit));
}

}  // namespace lutsmith
