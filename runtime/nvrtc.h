#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/compiler.h"
#include "runtime/nvrtc_search.h"

namespace lutsmith {

struct NvrtcApi;

/// NVIDIA's run-time compiler, opened at run time and never closed.
class Nvrtc final : public Compiler {
 public:
  /// The first library at `places` that can be opened and is recent enough. The error lists every place;
  /// where one was asked for, its message names that and says what is wrong with it.
  static Result<std::unique_ptr<Nvrtc>> open(const std::vector<NvrtcPlace>& places);
  ~Nvrtc() override;

  const std::string& library() const { return library_; }  ///< path of the file
  const std::string& origin() const { return origin_; }    ///< why it was looked for there
  /// What was named on purpose, yet holds no NVRTC that can be used: a sentence each.
  const std::vector<std::string>& passed_over() const { return passed_over_; }
  int version() const { return version_; }  ///< 1000 * major + 10 * minor
  const std::string& identity() const override { return identity_; }
  std::string options(Target target) const override;
  Result<CompiledKernel> compile(const std::string& source, Target target,
                                 const std::string& kernel) const override;

  /// Error: unsupported, naming both versions, for a target newer than this NVRTC.
  Result<void> check_target(Target target) const;

 private:
  explicit Nvrtc(std::unique_ptr<const NvrtcApi> api);
  static Result<std::unique_ptr<Nvrtc>> open_library(const std::string& name);
  Error no_builtins(const std::string& kernel, std::string log) const;

  std::unique_ptr<const NvrtcApi> api_;
  std::string library_;
  std::string origin_;
  std::vector<std::string> passed_over_;
  std::string builtins_problem_;  ///< why the built-ins beside the library were not opened; mostly empty
  std::string identity_;
  int version_ = 0;
  std::vector<int> architectures_;  ///< 10 * major + minor; empty where NVRTC does not tell
};

/// The check behind `Nvrtc::check_target`. `architectures` may be empty (not known).
Result<void> check_target_supported(Target target, int nvrtc_version, const std::vector<int>& architectures);

/// The options that a version of NVRTC knows and that kernels are compiled with. Part of every cache key:
/// what changes here makes all kernels of that version anew.
std::vector<std::string> nvrtc_options(Target target, int nvrtc_version);

}  // namespace lutsmith
