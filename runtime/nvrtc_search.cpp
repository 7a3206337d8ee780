#include "runtime/nvrtc_search.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <utility>

namespace lutsmith {
namespace {

constexpr std::string_view kFileName = "libnvrtc.so";
constexpr std::string_view kAnyVersion = "libnvrtc.so*";

std::string environment_variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): read only
  return value != nullptr ? value : "";
}

/// A path that stands for itself in a pattern.
std::string literal(std::string_view path) {
  std::string escaped;
  for (const char c : path) {
    if (c == '*' || c == '?' || c == '[' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

/// Number behind "libnvrtc.so.", 0 for the bare name.
int major_in_name(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename();
  return name.size() > kFileName.size() + 1 ? std::atoi(name.c_str() + kFileName.size() + 1) : 0;
}

void add_folder(std::vector<NvrtcPlace>& places, std::string origin, const std::string& folder) {
  places.push_back({std::move(origin), fmt::format("{}/{}", folder, kAnyVersion), false});
}

void add_toolkit(std::vector<NvrtcPlace>& places, const std::string& origin, const std::string& root) {
  add_folder(places, origin, root + "/lib64");
  add_folder(places, origin, root + "/targets/x86_64-linux/lib");
}

// Where NVIDIA's wheels put the library below a folder of Python packages: since CUDA 13, and before.
void add_packages(std::vector<NvrtcPlace>& places, const std::string& packages) {
  add_folder(places, "Python wheel", packages + "/nvidia/cu[0-9]*/lib");
  add_folder(places, "Python wheel", packages + "/nvidia/cuda_nvrtc/lib");
}

}  // namespace

NvrtcEnvironment NvrtcEnvironment::of_process(const std::filesystem::path& given) {
  return {.given = given.native(),
          .lutsmith_nvrtc = environment_variable("LUTSMITH_NVRTC"),
          .cuda_home = environment_variable("CUDA_HOME"),
          .cuda_path = environment_variable("CUDA_PATH"),
          .virtual_env = environment_variable("VIRTUAL_ENV"),
          .conda_prefix = environment_variable("CONDA_PREFIX"),
          .home = environment_variable("HOME")};
}

std::vector<NvrtcPlace> nvrtc_places(const NvrtcEnvironment& environment) {
  std::vector<NvrtcPlace> places;
  const bool by_option = !environment.given.empty();
  const std::string& asked_for = by_option ? environment.given : environment.lutsmith_nvrtc;
  if (!asked_for.empty()) {
    const std::string origin = by_option ? "the path given" : "LUTSMITH_NVRTC";
    std::error_code ignored;
    if (std::filesystem::is_directory(asked_for, ignored)) {
      add_folder(places, origin, literal(asked_for));
    } else {
      places.push_back({origin, asked_for, true});  // handed to the loader as it stands
    }
    return places;
  }
  for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"}) {
    places.push_back({"the loader's path", name, true});
  }
  if (!environment.cuda_home.empty()) add_toolkit(places, "CUDA_HOME", literal(environment.cuda_home));
  if (!environment.cuda_path.empty()) add_toolkit(places, "CUDA_PATH", literal(environment.cuda_path));
  add_toolkit(places, "CUDA toolkit", "/usr/local/cuda*");
  if (!environment.virtual_env.empty()) {
    add_packages(places, literal(environment.virtual_env) + "/lib/python3*/site-packages");
  }
  if (!environment.conda_prefix.empty()) {
    add_folder(places, "CONDA_PREFIX", literal(environment.conda_prefix) + "/lib");
    add_packages(places, literal(environment.conda_prefix) + "/lib/python3*/site-packages");
  }
  if (!environment.home.empty()) {
    add_packages(places, literal(environment.home) + "/.local/lib/python3*/site-packages");
  }
  for (const char* packages :
       {"/usr/local/lib/python3*/dist-packages", "/usr/local/lib/python3*/site-packages",
        "/usr/lib/python3*/dist-packages", "/usr/lib/python3*/site-packages"}) {
    add_packages(places, packages);
  }
  return places;
}

std::vector<std::string> libraries_at(const NvrtcPlace& place) {
  if (place.by_loader) return {place.pattern};
  glob_t matches{};
  std::vector<std::string> found;
  if (glob(place.pattern.c_str(), 0, nullptr, &matches) == 0) {
    found.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  }
  globfree(&matches);
  std::ranges::sort(found, std::ranges::greater(),
                    [](const std::string& path) { return std::pair(major_in_name(path), path); });
  return found;
}

}  // namespace lutsmith
