#include "measure/cublas.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "core/result.h"
#include "core/shared_library.h"

namespace lutsmith::measure {
namespace {

// Values of cublas_api.h and library_types.h.
constexpr int kTranspose = 1;
constexpr int kAsIs = 0;
constexpr int kF16 = 2;
constexpr int kBf16 = 14;
constexpr int kSumsInFp32 = 68;
constexpr int kDefaultAlgorithm = -1;

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

// Neither is ever closed: they leave threads and exit handlers behind.
std::optional<core::SharedLibrary> open_library(std::span<const CublasPlace> places, std::string& reasons) {
  for (const CublasPlace& place : places) {
    Result<core::SharedLibrary> library = core::SharedLibrary::open(place.cublas_lt);
    if (library) library = core::SharedLibrary::open(place.cublas);
    if (library) return *library;
    reasons += library.error().message + "\n";
  }
  return std::nullopt;
}

Result<void> check(int status, const char* call) {
  if (status == 0) return {};
  return std::unexpected(
      Error{ErrorCode::driver_error, fmt::format("{} failed with cuBLAS status {}", call, status), ""});
}

}  // namespace

std::vector<CublasPlace> usual_cublas_places() {
  std::vector<CublasPlace> places;
  for (const char* folder : {"", "/usr/local/cuda/lib64/", "/opt/cuda/lib64/"}) {
    for (const char* version : {"13", "12"}) {
      places.push_back({.cublas_lt = fmt::format("{}libcublasLt.so.{}", folder, version),
                        .cublas = fmt::format("{}libcublas.so.{}", folder, version)});
    }
  }
  return places;
}

Result<Cublas::Api> Cublas::load(std::span<const CublasPlace> places) {
  std::string reasons;
  std::optional<core::SharedLibrary> library = open_library(places, reasons);
  if (!library) {
    return std::unexpected(Error{ErrorCode::not_found,
                                 "cuBLAS 12 or 13 was not found; install it or add its folder to "
                                 "LD_LIBRARY_PATH to compare with it",
                                 reasons});
  }
  Api api{};
  library->load("cublasCreate_v2", api.create);
  library->load("cublasDestroy_v2", api.destroy);
  library->load("cublasGetVersion_v2", api.version);
  library->load("cublasSetStream_v2", api.set_stream);
  library->load("cublasSetWorkspace_v2", api.set_workspace);
  library->load("cublasGemmEx", api.multiply);
  if (library->missing() != nullptr) {
    return std::unexpected(
        Error{ErrorCode::unsupported, "the cuBLAS that was found lacks a function of cuBLAS 12", ""});
  }
  return api;
}

Result<Cublas> Cublas::open(Device& device, std::span<const CublasPlace> places) {
  Result<Api> api = load(places);
  if (!api) return failure(api);
  void* handle = nullptr;
  if (Result<void> created = check(api->create(&handle), "cublasCreate"); !created) return failure(created);
  Cublas cublas(*api, device, handle);
  if (Result<void> known = check(api->version(handle, &cublas.version_), "cublasGetVersion"); !known) {
    return failure(known);
  }
  Result<std::unique_ptr<Memory>> workspace = device.allocate(kWorkspaceBytes);
  if (!workspace) return failure(workspace);
  cublas.workspace_ = std::move(*workspace);
  return cublas;
}

Cublas::Cublas(Cublas&& other) noexcept
    : api_(other.api_),
      device_(other.device_),
      handle_(std::exchange(other.handle_, nullptr)),
      version_(other.version_),
      workspace_(std::move(other.workspace_)) {}

Cublas& Cublas::operator=(Cublas&& other) noexcept {
  std::swap(api_, other.api_);
  std::swap(device_, other.device_);
  std::swap(handle_, other.handle_);
  std::swap(version_, other.version_);
  std::swap(workspace_, other.workspace_);
  return *this;
}

Cublas::~Cublas() {
  if (handle_ != nullptr) api_.destroy(handle_);
}

Result<void> Cublas::multiply(DataType dtype, std::int64_t m, std::int64_t n, std::int64_t k,
                              const void* activations, const void* weights, void* output) const {
  // Choosing a stream resets the workspace, so the two go together.
  Result<void> ready = check(api_.set_stream(handle_, device_->stream()), "cublasSetStream");
  if (ready) {
    ready = check(api_.set_workspace(handle_, workspace_->data(), workspace_->bytes()), "cublasSetWorkspace");
  }
  if (!ready) return ready;
  const float one = 1;
  const float zero = 0;
  const int type = dtype == DataType::f16 ? kF16 : kBf16;
  // Column-major by cuBLAS's convention: Y^T [n, m] = (W^T [k, n])^T * X^T [k, m].
  return check(
      api_.multiply(handle_, kTranspose, kAsIs, static_cast<int>(n), static_cast<int>(m), static_cast<int>(k),
                    &one, weights, type, static_cast<int>(k), activations, type, static_cast<int>(k), &zero,
                    output, type, static_cast<int>(n), kSumsInFp32, kDefaultAlgorithm),
      "cublasGemmEx");
}

}  // namespace lutsmith::measure
