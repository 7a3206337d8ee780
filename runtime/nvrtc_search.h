#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace lutsmith {

/// A place where NVRTC may be.
struct NvrtcPlace {
  std::string origin;  ///< why it is looked at, for people: "CUDA_HOME", "Python wheel", ...
  /// A bare name for the loader's own search, or the path of a file with `*` as the shell has it.
  std::string pattern;
  bool by_loader = false;
  /// What `origin` was set to, where a person named a place on purpose; else empty.
  std::string named = {};
};

/// What decides where to look. An empty member is one that is not set.
struct NvrtcEnvironment {
  std::string given;  ///< ServiceOptions::nvrtc
  std::string lutsmith_nvrtc;
  std::string cuda_home;
  std::string cuda_path;
  std::string virtual_env;
  std::string conda_prefix;
  std::string home;

  static NvrtcEnvironment of_process(const std::filesystem::path& given);
};

/// Places in the order they are tried: what was named on purpose, then what the loader finds, then where
/// toolkits and wheels usually are. A path that was asked for (`given`, else LUTSMITH_NVRTC; a file, its
/// folder, or the root of a toolkit) is the only one: another compiler than the one named would be a
/// surprise.
std::vector<NvrtcPlace> nvrtc_places(const NvrtcEnvironment& environment);

/// What to hand to the loader for a place: the name itself, or the files that match, newest major first.
std::vector<std::string> libraries_at(const NvrtcPlace& place);

}  // namespace lutsmith
