#include "runtime/nvrtc_search.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/environment.h"

namespace lutsmith {
namespace {

using core::environment_variable;

constexpr std::string_view kFileName = "libnvrtc.so";
constexpr std::string_view kAnyVersion = "libnvrtc.so*";

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

// Of a toolkit, of a wheel, or of a folder of wheels. Since CUDA 13 NVIDIA's wheels share a folder,
// nvidia/cu13; before, each had its own.
constexpr std::array<std::string_view, 8> kFoldersOfRoot = {
    "lib64",
    "lib",
    "targets/x86_64-linux/lib",
    "lib/x86_64-linux-gnu",
    "cu[0-9]*/lib",
    "cuda_nvrtc/lib",
    "nvidia/cu[0-9]*/lib",
    "nvidia/cuda_nvrtc/lib",
};

/// Places of one origin.
class Places {
 public:
  Places(std::vector<NvrtcPlace>& places, std::string_view origin, std::string_view named = {})
      : places_(places), origin_(origin), named_(named) {}

  void add_library(std::string_view name) const {
    places_.push_back({origin_, std::string(name), /*by_loader=*/true, named_});
  }
  void add_folder(std::string_view folder) const {
    places_.push_back({origin_, fmt::format("{}/{}", folder, kAnyVersion), /*by_loader=*/false, named_});
  }
  void add_root(std::string_view root) const {
    add_folder(root);
    for (const std::string_view folder : kFoldersOfRoot) add_folder(fmt::format("{}/{}", root, folder));
  }

 private:
  std::vector<NvrtcPlace>& places_;
  std::string origin_;
  std::string named_;
};

void add_packages(std::vector<NvrtcPlace>& places, std::string_view packages) {
  const Places wheels(places, "Python wheel");
  wheels.add_folder(fmt::format("{}/nvidia/cu[0-9]*/lib", packages));
  wheels.add_folder(fmt::format("{}/nvidia/cuda_nvrtc/lib", packages));
}

/// The one place that was asked for, whatever it is.
std::vector<NvrtcPlace> asked_for(std::string_view origin, const std::string& path) {
  std::vector<NvrtcPlace> places;
  const Places named(places, origin, path);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    named.add_root(literal(path));
  } else {
    named.add_library(path);
  }
  return places;
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
  if (!environment.given.empty()) return asked_for("ServiceOptions::nvrtc", environment.given);
  if (!environment.lutsmith_nvrtc.empty()) return asked_for("LUTSMITH_NVRTC", environment.lutsmith_nvrtc);
  std::vector<NvrtcPlace> places;
  for (const auto& [variable, root] :
       {std::pair("CUDA_HOME", environment.cuda_home), std::pair("CUDA_PATH", environment.cuda_path)}) {
    if (!root.empty()) Places(places, variable, root).add_root(literal(root));
  }
  for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"}) {
    Places(places, "the loader's path").add_library(name);
  }
  const Places toolkits(places, "CUDA toolkit");
  for (const char* folder : {"lib64", "lib", "targets/x86_64-linux/lib"}) {
    toolkits.add_folder(fmt::format("/usr/local/cuda*/{}", folder));
  }
  if (!environment.virtual_env.empty()) {
    add_packages(places, literal(environment.virtual_env) + "/lib/python3*/site-packages");
  }
  if (!environment.conda_prefix.empty()) {
    Places(places, "CONDA_PREFIX").add_folder(literal(environment.conda_prefix) + "/lib");
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
