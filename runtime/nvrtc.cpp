#include "runtime/nvrtc.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

#include "core/result.h"
#include "core/shared_library.h"
#include "core/shared_object.h"
#include "runtime/build_identity.h"
#include "runtime/cuda_version.h"
#include "runtime/nvrtc_builtins.h"
#include "runtime/ptxas_log.h"

namespace lutsmith {

/// The part of NVRTC's binary interface that is called; no header of it is needed to build.
struct NvrtcApi {
  using Status = int;  // nvrtcResult, 0 is success
  using Program = struct OpaqueProgram*;

  Status (*version)(int* major, int* minor);
  const char* (*error_string)(Status status);
  Status (*create)(Program* program, const char* source, const char* name, int header_count,
                   const char* const* headers, const char* const* include_names);
  Status (*compile)(Program program, int option_count, const char* const* options);
  Status (*destroy)(Program* program);
  Status (*log_size)(Program program, std::size_t* bytes);
  Status (*log)(Program program, char* text);
  Status (*cubin_size)(Program program, std::size_t* bytes);
  Status (*cubin)(Program program, char* bytes);
  Status (*architecture_count)(int* count);  ///< may be missing
  Status (*architectures)(int* numbers);     ///< may be missing
};

namespace {

constexpr int kOldestNvrtc = 12000;
constexpr int kFirstWithMinimal = 12040;
constexpr NvrtcApi::Status kErrorCompilation = 6;
constexpr NvrtcApi::Status kErrorBuiltins = 7;

void load_api(core::SharedLibrary& library, NvrtcApi& api) {
  library.load("nvrtcVersion", api.version);
  library.load("nvrtcGetErrorString", api.error_string);
  library.load("nvrtcCreateProgram", api.create);
  library.load("nvrtcCompileProgram", api.compile);
  library.load("nvrtcDestroyProgram", api.destroy);
  library.load("nvrtcGetProgramLogSize", api.log_size);
  library.load("nvrtcGetProgramLog", api.log);
  library.load("nvrtcGetCUBINSize", api.cubin_size);
  library.load("nvrtcGetCUBIN", api.cubin);
  library.load_optional("nvrtcGetNumSupportedArchs", api.architecture_count);
  library.load_optional("nvrtcGetSupportedArchs", api.architectures);
}

/// One program of NVRTC, destroyed at the end of its scope.
class Program {
 public:
  explicit Program(const NvrtcApi& api) : api_(api) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (handle_ != nullptr) api_.destroy(&handle_);
  }

  NvrtcApi::Program& handle() { return handle_; }

  std::string log() const {
    std::size_t bytes = 0;
    if (api_.log_size(handle_, &bytes) != 0 || bytes <= 1) return {};
    std::string text(bytes, '\0');
    if (api_.log(handle_, text.data()) != 0) return {};
    text.resize(bytes - 1);  // NVRTC counts the terminating zero
    return text;
  }

 private:
  const NvrtcApi& api_;
  NvrtcApi::Program handle_ = nullptr;
};

/// What became of the places that were looked at, for the error that ends the search.
class Search {
 public:
  void begin(const NvrtcPlace& place, bool empty) {
    lines_ += fmt::format("{} ({}){}\n", place.pattern, place.origin, empty ? ": no such file" : "");
    if (!place.named.empty() && (named_.empty() || named_.back().origin != place.origin)) {
      named_.push_back({.origin = place.origin, .value = place.named, .refusal = std::nullopt});
    }
  }

  void refuse(const NvrtcPlace& place, const std::string& library, const Error& error) {
    lines_ += fmt::format("  {}: {}\n", library, error.message);
    if (place.named.empty() || named_.back().refusal) return;
    named_.back().refusal = error;
    if (library != place.named) named_.back().refusal->message = library + ": " + error.message;
  }

  /// A sentence for each place that was named before the search ended at `origin`.
  std::vector<std::string> passed_over(const std::string& origin) const {
    std::vector<std::string> sentences;
    for (const Named& one : named_) {
      if (one.origin != origin) sentences.push_back(sentence(one));
    }
    return sentences;
  }

  Error error(const std::vector<NvrtcPlace>& places) const {
    // Where something was asked for, it was all that was looked at.
    if (!places.empty() && !places.front().named.empty() && places.back().origin == places.front().origin) {
      return Error{
          named_.front().refusal ? named_.front().refusal->code : ErrorCode::not_found,
          fmt::format("{}; name libnvrtc.so, its folder, or the root of a CUDA toolkit, or leave it unset",
                      sentence(named_.front())),
          "searched:\n" + lines_};
    }
    return Error{
        ErrorCode::not_found,
        "no NVRTC was found, which compiles the kernels; install a CUDA toolkit or its wheel (pip install "
        "nvidia-cuda-nvrtc), or name the library in LUTSMITH_NVRTC",
        "searched:\n" + lines_};
  }

 private:
  struct Named {
    std::string origin;
    std::string value;
    std::optional<Error> refusal;  ///< of the first library there
  };

  static std::string sentence(const Named& named) {
    std::error_code ignored;
    const std::string reason =
        named.refusal ? named.refusal->message
        : std::filesystem::is_directory(named.value, ignored)
            ? "it holds no libnvrtc.so, nor do its lib64, lib or targets/x86_64-linux/lib"
            : "there is no such folder";
    return fmt::format("{} is '{}': {}", named.origin, named.value, reason);
  }

  std::string lines_;
  std::vector<Named> named_;
};

/// The loader's complaint about a library, without the name that it puts before.
Error loader_reason(const std::string& name, Error error) {
  if (error.message.starts_with(name + ": ")) error.message.erase(0, name.size() + 2);
  return error;
}

}  // namespace

std::vector<std::string> nvrtc_options(Target target, int nvrtc_version) {
  std::vector<std::string> options = {fmt::format("--gpu-architecture={}", target.name()), "-std=c++17"};
  // Without the declarations of textures and the device runtime, which no kernel here uses. Older versions
  // refuse the option, and take 0.1 s longer for each kernel.
  if (nvrtc_version >= kFirstWithMinimal) options.emplace_back("--minimal");
  options.emplace_back("--ptxas-options=-v");
  // Where there is a driver, NVRTC 13 keeps a cache of its own, and what comes from it has no report of
  // registers and spills.
  if (nvrtc_version >= 13000) options.emplace_back("--no-cache");
  return options;
}

Result<void> check_target_supported(Target target, int nvrtc_version, const std::vector<int>& architectures) {
  const TargetTraits& traits = target.traits();
  const bool listed =
      architectures.empty() ||
      std::ranges::find(architectures, 10 * traits.major + traits.minor) != architectures.end();
  if (nvrtc_version >= traits.min_nvrtc && listed) return {};
  return std::unexpected(
      Error{ErrorCode::unsupported,
            fmt::format(
                "target {} needs NVRTC {} or later, and the one found is {}{}; install a newer one and name "
                "it in LUTSMITH_NVRTC",
                traits.name, cuda_version_text(traits.min_nvrtc), cuda_version_text(nvrtc_version),
                listed ? "" : ", which does not list the target"),
            ""});
}

Nvrtc::Nvrtc(std::unique_ptr<const NvrtcApi> api) : api_(std::move(api)) {}
Nvrtc::~Nvrtc() = default;

Result<std::unique_ptr<Nvrtc>> Nvrtc::open_library(const std::string& name) {
  if (Result<void> whole = check_library(name); !whole) return failure(whole);
  Result<core::SharedLibrary> library = core::SharedLibrary::open(name);
  if (!library) return std::unexpected(loader_reason(name, std::move(library.error())));
  auto api = std::make_unique<NvrtcApi>();
  load_api(*library, *api);
  if (library->missing() != nullptr) {
    return std::unexpected(Error{ErrorCode::unsupported, "it is not NVRTC, or too old", ""});
  }
  int major = 0;
  int minor = 0;
  if (api->version(&major, &minor) != 0 || 1000 * major + 10 * minor < kOldestNvrtc) {
    return std::unexpected(Error{ErrorCode::unsupported,
                                 fmt::format("NVRTC {}.{} is too old, 12.0 or later is needed", major, minor),
                                 ""});
  }
  Result<BuildIdentity> build = build_identity_of(reinterpret_cast<const void*>(api->version));
  if (!build) return failure(build);

  std::unique_ptr<Nvrtc> nvrtc(new Nvrtc(std::move(api)));
  nvrtc->library_ = build->path;
  nvrtc->version_ = 1000 * major + 10 * minor;
  nvrtc->identity_ = fmt::format("nvrtc {}.{} {}", major, minor, build->id);
  if (Result<void> builtins = open_nvrtc_builtins(name, build->path, major, minor); !builtins) {
    nvrtc->builtins_problem_ =
        builtins.error().message;  // the loader may still know of some: compiling tells
  }
  int count = 0;
  if (nvrtc->api_->architecture_count != nullptr && nvrtc->api_->architectures != nullptr &&
      nvrtc->api_->architecture_count(&count) == 0 && count > 0) {
    nvrtc->architectures_.resize(static_cast<std::size_t>(count));
    if (nvrtc->api_->architectures(nvrtc->architectures_.data()) != 0) nvrtc->architectures_.clear();
  }
  return nvrtc;
}

Result<std::unique_ptr<Nvrtc>> Nvrtc::open(const std::vector<NvrtcPlace>& places) {
  Search search;
  for (const NvrtcPlace& place : places) {
    const std::vector<std::string> libraries = libraries_at(place);
    search.begin(place, libraries.empty());
    for (const std::string& library : libraries) {
      Result<std::unique_ptr<Nvrtc>> opened = open_library(library);
      if (!opened) {
        search.refuse(place, library, opened.error());
        continue;
      }
      (*opened)->origin_ = place.origin;
      (*opened)->passed_over_ = search.passed_over(place.origin);
      return opened;
    }
  }
  return std::unexpected(search.error(places));
}

Result<void> Nvrtc::check_target(Target target) const {
  return check_target_supported(target, version_, architectures_);
}

std::string Nvrtc::options(Target target) const {
  return fmt::format("{}\n", fmt::join(nvrtc_options(target, version_), "\n"));
}

Error Nvrtc::no_builtins(const std::string& kernel, std::string log) const {
  return Error{
      ErrorCode::compilation_failed,
      fmt::format("NVRTC {} at {} cannot compile {} without its built-ins: {}; install its package anew, "
                  "or name another in LUTSMITH_NVRTC",
                  cuda_version_text(version_), library_, kernel,
                  builtins_problem_.empty() ? "it cannot use what lies beside it" : builtins_problem_),
      std::move(log)};
}

Result<CompiledKernel> Nvrtc::compile(const std::string& source, Target target,
                                      const std::string& kernel) const {
  if (Result<void> known = check_target(target); !known) return failure(known);
  const auto fail = [&](NvrtcApi::Status status, const char* call) {
    return std::unexpected(
        Error{ErrorCode::compilation_failed,
              fmt::format("{} failed for {}: {}", call, kernel, api_->error_string(status)), ""});
  };
  Program program(*api_);
  const std::string file_name = kernel + ".cu";
  NvrtcApi::Status status =
      api_->create(&program.handle(), source.c_str(), file_name.c_str(), 0, nullptr, nullptr);
  if (status != 0) return fail(status, "nvrtcCreateProgram");

  const std::vector<std::string> options = nvrtc_options(target, version_);
  std::vector<const char*> pointers;
  for (const std::string& option : options) pointers.push_back(option.c_str());
  status = api_->compile(program.handle(), static_cast<int>(pointers.size()), pointers.data());
  CompiledKernel compiled;
  compiled.log = program.log();
  if (status == kErrorBuiltins) return std::unexpected(no_builtins(kernel, std::move(compiled.log)));
  if (status == kErrorCompilation) {
    return std::unexpected(Error{ErrorCode::compilation_failed,
                                 fmt::format("NVRTC {} refuses {} for {}; its log says why",
                                             cuda_version_text(version_), kernel, target.name()),
                                 std::move(compiled.log)});
  }
  if (status != 0) {
    auto failed = fail(status, "nvrtcCompileProgram");
    failed.error().context = std::move(compiled.log);
    return failed;
  }
  std::size_t bytes = 0;
  status = api_->cubin_size(program.handle(), &bytes);
  if (status != 0) return fail(status, "nvrtcGetCUBINSize");
  compiled.cubin.resize(bytes);
  status = api_->cubin(program.handle(), reinterpret_cast<char*>(compiled.cubin.data()));
  if (status != 0) return fail(status, "nvrtcGetCUBIN");

  const PtxasFacts facts = parse_ptxas_log(compiled.log).value_or(PtxasFacts{});
  compiled.registers = facts.registers;
  compiled.static_shared_bytes = facts.static_shared_bytes;
  compiled.spill_bytes = facts.spill_bytes;
  return compiled;
}

}  // namespace lutsmith
