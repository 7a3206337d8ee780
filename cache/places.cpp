#include "cache/places.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <optional>
#include <system_error>

#include "core/environment.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;
using core::environment_variable;

/// A server that takes longer is worse than none.
constexpr std::uint64_t kLongestConnectMs = 60'000;

std::string home_in_user_database() {
  std::array<char, 4096> buffer{};
  passwd record{};
  passwd* found = nullptr;
  if (getpwuid_r(geteuid(), &record, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return {};
  return found->pw_dir != nullptr ? found->pw_dir : "";
}

/// Empty where the working directory, which a relative path needs, is gone.
fs::path absolute(const std::string& path) {
  std::error_code failed;
  fs::path result = fs::absolute(path, failed);
  return failed ? fs::path() : result;
}

std::vector<fs::path> own_directories(const PlacesEnvironment& environment) {
  if (!environment.cache_dir.empty()) {
    const fs::path given = absolute(environment.cache_dir);
    return given.empty() ? std::vector<fs::path>() : std::vector{given};
  }
  std::vector<fs::path> found;
  // The XDG specification has relative paths ignored; a relative home would follow the working directory.
  const fs::path xdg = environment.xdg_cache_home;
  if (xdg.is_absolute()) {
    found.push_back(xdg / "lutsmith");
  } else {
    for (const fs::path home : {environment.home, environment.passwd_home}) {
      if (!home.is_absolute()) continue;
      found.push_back(home / ".cache" / "lutsmith");
      break;
    }
  }
  // By number, since there may be no name. Who made the directory is checked when it is opened.
  found.emplace_back(fmt::format("/var/tmp/lutsmith-{}", environment.user));
  return found;
}

std::vector<fs::path> split(std::string_view list) {
  std::vector<fs::path> parts;
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(':'), list.size());
    if (const fs::path part = absolute(std::string(list.substr(0, end))); end > 0 && !part.empty()) {
      parts.push_back(part);
    }
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return parts;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

PlacesEnvironment PlacesEnvironment::of_process() {
  return {.cache_dir = environment_variable("LUTSMITH_CACHE_DIR"),
          .cache_path = environment_variable("LUTSMITH_CACHE_PATH"),
          .cache_max_bytes = environment_variable("LUTSMITH_CACHE_MAX_BYTES"),
          .cache_max_entries = environment_variable("LUTSMITH_CACHE_MAX_ENTRIES"),
          .remote = environment_variable("LUTSMITH_REMOTE_CACHE"),
          .remote_mode = environment_variable("LUTSMITH_REMOTE_CACHE_MODE"),
          .remote_token = environment_variable("LUTSMITH_REMOTE_CACHE_TOKEN"),
          .remote_certificate = environment_variable("LUTSMITH_REMOTE_CACHE_CERTIFICATE"),
          .remote_key = environment_variable("LUTSMITH_REMOTE_CACHE_KEY"),
          .remote_authority = environment_variable("LUTSMITH_REMOTE_CACHE_CA"),
          .remote_connect_ms = environment_variable("LUTSMITH_REMOTE_CACHE_CONNECT_MS"),
          .xdg_cache_home = environment_variable("XDG_CACHE_HOME"),
          .home = environment_variable("HOME"),
          .passwd_home = home_in_user_database(),
          .user = geteuid()};
}

Places places(const PlacesEnvironment& environment) {
  Places result;
  result.own = own_directories(environment);
  result.system = split(environment.cache_path);
  if (!environment.cache_max_bytes.empty()) {
    const Result<std::uint64_t> bytes = parse_byte_size(environment.cache_max_bytes);
    if (bytes) {
      result.limits.bytes = *bytes;
    } else {
      result.complaints.push_back(fmt::format("LUTSMITH_CACHE_MAX_BYTES: {}", bytes.error().message));
    }
  }
  if (!environment.cache_max_entries.empty()) {
    if (const auto entries = parse_number(environment.cache_max_entries)) {
      result.limits.entries = *entries;
    } else {
      result.complaints.push_back(
          fmt::format("LUTSMITH_CACHE_MAX_ENTRIES: '{}' is no whole number", environment.cache_max_entries));
    }
  }
  const bool read_only = environment.remote_mode == "read-only";
  if (!read_only && !environment.remote_mode.empty() && environment.remote_mode != "read-write") {
    // What was meant is not known, and to upload against somebody's will is worse than not to.
    result.complaints.push_back(
        fmt::format("LUTSMITH_REMOTE_CACHE_MODE: '{}' is not known; allowed: read-write, read-only; the "
                    "remote cache is only read",
                    environment.remote_mode));
  }
  result.remote.url = environment.remote;
  result.remote.read_only = !environment.remote_mode.empty() && environment.remote_mode != "read-write";
  result.remote.bearer_token = environment.remote_token;
  result.remote.client_certificate = environment.remote_certificate;
  result.remote.client_key = environment.remote_key;
  result.remote.certificate_authority = environment.remote_authority;
  if (!environment.remote_connect_ms.empty()) {
    const std::optional<std::uint64_t> wait = parse_number(environment.remote_connect_ms);
    if (wait && *wait >= 1 && *wait <= kLongestConnectMs) {
      result.remote.connect_timeout = std::chrono::milliseconds(*wait);
    } else {
      result.complaints.push_back(fmt::format(
          "LUTSMITH_REMOTE_CACHE_CONNECT_MS: '{}' is not allowed; allowed: 1 to {} "
          "milliseconds; it stays at {}",
          environment.remote_connect_ms, kLongestConnectMs, result.remote.connect_timeout.count()));
    }
  }
  return result;
}

Result<std::uint64_t> parse_byte_size(std::string_view text) {
  constexpr std::string_view kUnits = "KMGT";
  std::string_view digits = text;
  unsigned shift = 0;
  if (!digits.empty() && kUnits.contains(digits.back())) {
    shift = 10 * (static_cast<unsigned>(kUnits.find(digits.back())) + 1);
    digits.remove_suffix(1);
  }
  const std::optional<std::uint64_t> number = parse_number(digits);
  if (number && *number << shift >> shift == *number) return *number << shift;
  return std::unexpected(
      Error{ErrorCode::invalid_argument,
            fmt::format("'{}' is no size; allowed: bytes such as 500000, or 500K, 200M, 4G, 1T", text), ""});
}

}  // namespace lutsmith::cache
