#include "cli/verbs/bench/cublas.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <utility>

#include "core/result.h"

namespace lutsmith::cli {
namespace {

// Values of cublas_api.h and library_types.h.
constexpr int kTranspose = 1;
constexpr int kAsIs = 0;
constexpr int kFp16 = 2;
constexpr int kBf16 = 14;
constexpr int kSumsInFp32 = 68;
constexpr int kDefaultAlgorithm = -1;

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

constexpr std::array kFolders{"", "/usr/local/cuda/lib64/", "/opt/cuda/lib64/"};
constexpr std::array kVersions{"13", "12"};

void* open_library(std::string& reasons) {
  for (const char* folder : kFolders) {
    for (const char* version : kVersions) {
      // libcublas needs libcublasLt, which the loader does not look for beside it by itself.
      const std::string helper = fmt::format("{}libcublasLt.so.{}", folder, version);
      if (dlopen(helper.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
        const char* reason = dlerror();
        reasons += fmt::format("{}\n", reason != nullptr ? reason : helper.c_str());
        continue;
      }
      const std::string name = fmt::format("{}libcublas.so.{}", folder, version);
      if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
      const char* reason = dlerror();
      reasons += fmt::format("{}\n", reason != nullptr ? reason : name.c_str());
    }
  }
  return nullptr;
}

Result<void> check(int status, const char* call) {
  if (status == 0) return {};
  return std::unexpected(
      Error{ErrorCode::driver_error, fmt::format("{} failed with cuBLAS status {}", call, status), ""});
}

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

Result<Cublas::Api> Cublas::load() {
  std::string reasons;
  void* library = open_library(reasons);  // stays open: it leaves threads and exit handlers behind
  if (library == nullptr) {
    return std::unexpected(Error{ErrorCode::not_found,
                                 "cuBLAS 12 or 13 was not found; install it or add its folder to "
                                 "LD_LIBRARY_PATH to compare with it",
                                 reasons});
  }
  Api api{};
  const bool complete = find(library, "cublasCreate_v2", api.create) &&
                        find(library, "cublasDestroy_v2", api.destroy) &&
                        find(library, "cublasGetVersion_v2", api.version) &&
                        find(library, "cublasSetStream_v2", api.set_stream) &&
                        find(library, "cublasSetWorkspace_v2", api.set_workspace) &&
                        find(library, "cublasGemmEx", api.multiply);
  if (!complete) {
    return std::unexpected(
        Error{ErrorCode::unsupported, "the cuBLAS that was found lacks a function of cuBLAS 12", ""});
  }
  return api;
}

Result<Cublas> Cublas::open(const cuda::Driver& driver) {
  Result<Api> api = load();
  if (!api) return failure(api);
  if (Result<cuda::ContextHandle> context = driver.ensure_context(); !context) return failure(context);
  void* handle = nullptr;
  if (Result<void> created = check(api->create(&handle), "cublasCreate"); !created) return failure(created);
  Cublas cublas(*api, handle);
  if (Result<void> known = check(api->version(handle, &cublas.version_), "cublasGetVersion"); !known) {
    return failure(known);
  }
  Result<cuda::Buffer> workspace = cuda::Buffer::allocate(driver, kWorkspaceBytes);
  if (!workspace) return failure(workspace);
  cublas.workspace_ = std::move(*workspace);
  return cublas;
}

Cublas::Cublas(Cublas&& other) noexcept
    : api_(other.api_),
      handle_(std::exchange(other.handle_, nullptr)),
      version_(other.version_),
      workspace_(std::move(other.workspace_)) {}

Cublas& Cublas::operator=(Cublas&& other) noexcept {
  std::swap(api_, other.api_);
  std::swap(handle_, other.handle_);
  std::swap(version_, other.version_);
  std::swap(workspace_, other.workspace_);
  return *this;
}

Cublas::~Cublas() {
  if (handle_ != nullptr) api_.destroy(handle_);
}

Result<void> Cublas::multiply(const cuda::Stream& stream, DataType dtype, std::int64_t m, std::int64_t n,
                              std::int64_t k, const void* activations, const void* weights,
                              void* output) const {
  // Choosing a stream resets the workspace, so the two go together.
  Result<void> ready = check(api_.set_stream(handle_, stream.get()), "cublasSetStream");
  if (ready) {
    ready = check(api_.set_workspace(handle_, workspace_.data(), workspace_.bytes()), "cublasSetWorkspace");
  }
  if (!ready) return ready;
  const float one = 1;
  const float zero = 0;
  const int type = dtype == DataType::f16 ? kFp16 : kBf16;
  // Column-major by cuBLAS's convention: Y^T [n, m] = (W^T [k, n])^T * X^T [k, m].
  return check(
      api_.multiply(handle_, kTranspose, kAsIs, static_cast<int>(n), static_cast<int>(m), static_cast<int>(k),
                    &one, weights, type, static_cast<int>(k), activations, type, static_cast<int>(k), &zero,
                    output, type, static_cast<int>(n), kSumsInFp32, kDefaultAlgorithm),
      "cublasGemmEx");
}

}  // namespace lutsmith::cli
