#include "cli/environment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <llvm/ADT/StringRef.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>

#include "service/service_environment.h"

namespace lutsmith::cli {
namespace {

constexpr std::string_view kPrefix = "LUTSMITH_";

constexpr std::array<std::string_view, 21> kVariables = {
    "LUTSMITH_BUILD",  // LUTSMITH_BUILD and LUTSMITH_JOBS are of the scripts
    "LUTSMITH_CACHE_DIR",
    "LUTSMITH_CACHE_MAX_BYTES",
    "LUTSMITH_CACHE_MAX_ENTRIES",
    "LUTSMITH_CACHE_PATH",
    "LUTSMITH_COMPILE",
    "LUTSMITH_GPU",
    "LUTSMITH_HOST_CXX",
    "LUTSMITH_JOBS",
    "LUTSMITH_NVRTC",
    "LUTSMITH_RECORD",
    "LUTSMITH_REMOTE_CACHE",
    "LUTSMITH_REMOTE_CACHE_CA",
    "LUTSMITH_REMOTE_CACHE_CERTIFICATE",
    "LUTSMITH_REMOTE_CACHE_CONNECT_MS",
    "LUTSMITH_REMOTE_CACHE_KEY",
    "LUTSMITH_REMOTE_CACHE_MODE",
    "LUTSMITH_REMOTE_CACHE_TOKEN",
    "LUTSMITH_TUNING",
    "LUTSMITH_TUNING_FILE",
    "LUTSMITH_TUNING_MISSING",
};

/// Whether a name that nothing reads can be a known one's: the first words of it, or with no more than a
/// third of the letters behind the prefix wrong, and never more than four.
bool is_plausible(std::string_view known, std::string_view name, unsigned distance) {
  constexpr std::size_t kFarthest = 4;
  const std::size_t letters = known.size() - kPrefix.size();
  return distance <= std::min((letters + 2) / 3, kFarthest) ||
         (known.starts_with(name) && known[name.size()] == '_' && name.size() > kPrefix.size());
}

std::string unknown_variable(const std::string& name) {
  const std::string upper = llvm::StringRef(name).upper();
  const auto distance = [&upper](std::string_view known) {
    return llvm::StringRef(upper).edit_distance(known, /*AllowReplacements=*/true);
  };
  std::string_view nearest;
  for (const std::string_view known : kVariables) {
    if (!is_plausible(known, upper, distance(known))) continue;
    if (nearest.empty() || distance(known) < distance(nearest)) nearest = known;
  }
  if (!nearest.empty()) {
    return fmt::format("{}: nothing reads a variable of this name; was {} meant?", name, nearest);
  }
  return fmt::format("{}: nothing reads a variable of this name; there are {}", name,
                     fmt::join(kVariables, ", "));
}

std::string reason(int number) { return std::generic_category().message(number); }

/// Where requests could not be written: like Recorder::open, which would make the file.
std::optional<std::string> record_complaint(const std::string& file) {
  struct stat status{};
  if (stat(file.c_str(), &status) == 0) {
    if (!S_ISREG(status.st_mode)) return "it is not a regular file; name one";
    return access(file.c_str(), W_OK) == 0 ? std::nullopt : std::optional(reason(errno));
  }
  if (errno != ENOENT) return reason(errno);
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  if (access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0) return std::nullopt;
  return fmt::format("no file can be made in {}: {}", folder.empty() ? "." : folder.native(), reason(errno));
}

std::optional<std::string> value_complaint(std::string_view name, const std::string& value) {
  if (value.empty()) return std::nullopt;  // as if it were not set
  if (name == "LUTSMITH_COMPILE") {
    const auto policy = parse_compile_policy("LUTSMITH_COMPILE", value);
    return policy ? std::nullopt : std::optional(policy.error().message);
  }
  if (name == "LUTSMITH_TUNING") {
    const auto mode = parse_tuning_mode("LUTSMITH_TUNING", value);
    return mode ? std::nullopt : std::optional(mode.error().message);
  }
  if (name == "LUTSMITH_TUNING_MISSING") {
    const auto missing = parse_missing_choice("LUTSMITH_TUNING_MISSING", value);
    return missing ? std::nullopt : std::optional(missing.error().message);
  }
  std::optional<std::string> wrong;
  if (name == "LUTSMITH_RECORD") wrong = record_complaint(value);
  if (name == "LUTSMITH_REMOTE_CACHE_CA" || name == "LUTSMITH_REMOTE_CACHE_CERTIFICATE" ||
      name == "LUTSMITH_REMOTE_CACHE_KEY" || name == "LUTSMITH_TUNING_FILE") {
    if (access(value.c_str(), R_OK) != 0) wrong = reason(errno);
  }
  if (wrong) wrong = fmt::format("{}: '{}' cannot be used: {}", name, value, *wrong);
  return wrong;
}

}  // namespace

std::span<const std::string_view> known_variables() { return kVariables; }

std::vector<std::string> environment_complaints(std::span<const std::string> environment) {
  std::vector<std::string> complaints;
  for (const std::string& entry : environment) {
    const std::size_t equals = std::min(entry.find('='), entry.size());
    const std::string name = entry.substr(0, equals);
    if (!llvm::StringRef(name).starts_with_insensitive(kPrefix)) continue;
    if (std::ranges::find(kVariables, name) == kVariables.end()) {
      complaints.push_back(unknown_variable(name));
    } else if (auto wrong = value_complaint(name, entry.substr(std::min(equals + 1, entry.size())))) {
      complaints.push_back(*std::move(wrong));
    }
  }
  std::ranges::sort(complaints);
  return complaints;
}

std::vector<std::string> process_environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) entries.emplace_back(*entry);
  return entries;
}

}  // namespace lutsmith::cli
