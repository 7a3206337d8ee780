#include "runtime/driver_refusal.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

#include "runtime/cuda_version.h"

namespace lutsmith::cuda {
namespace {

constexpr const char* kKernelModule = "/proc/driver/nvidia/version";
constexpr std::string_view kGetDriver = "install NVIDIA's driver 525 or later";

/// What the kernel's part of the driver says of itself, in parentheses; empty where it is not loaded.
std::string kernel_module() {
  std::ifstream file(kKernelModule);
  std::string line;
  std::getline(file, line);
  return line.empty() ? "" : fmt::format(" ({})", line);
}

std::string visible_devices() {
  const char* value = std::getenv("CUDA_VISIBLE_DEVICES");  // NOLINT(concurrency-mt-unsafe): read only
  return value != nullptr ? fmt::format("CUDA_VISIBLE_DEVICES, which is '{}'", value)
                          : "CUDA_VISIBLE_DEVICES, which is not set";
}

std::string folder_of(const std::string& library) {
  return std::filesystem::path(library).parent_path().native();
}

/// What it means and what to do, as the end of a sentence that begins with the library. `what` failed how.
std::string explanation(Status status, const std::string& what, const std::string& library) {
  switch (status) {
    case kErrorStubLibrary:
      return fmt::format(
          "is the stub of a CUDA toolkit, which programs are linked with and which drives no GPU; "
          "take it out of LD_LIBRARY_PATH and the loader's folders, or {}",
          kGetDriver);
    case kErrorNoDevice:
      return fmt::format(
          "finds no GPU; look at nvidia-smi, at {}, and in a container at whether it was started "
          "with GPUs (--gpus all)",
          visible_devices());
    case kErrorInvalidDevice:
      return fmt::format("has no such GPU; look at nvidia-smi and at {}", visible_devices());
    case kErrorDeviceUnavailable:
      return "cannot have the GPU, which another process holds for itself, or which is being reset; look at "
             "nvidia-smi";
    case kErrorSystemNotReady:
      return "says that the machine is not ready; start nvidia-fabricmanager where GPUs are joined by "
             "NVSwitch, "
             "and look at nvidia-smi";
    case kErrorSystemDriverMismatch:
      return fmt::format(
          "is not of the release of the kernel's NVIDIA module{}; restart the machine after an "
          "update of the driver; a container must use the driver of its host, not one of its image",
          kernel_module());
    case kErrorCompatNotSupported:
      return fmt::format(
          "is a forward-compatibility library (cuda-compat), which this GPU does not allow{}; take "
          "{} out of LD_LIBRARY_PATH, or update the machine's driver",
          kernel_module(), folder_of(library));
    default:
      return fmt::format(
          "cannot be used: {}; look at nvidia-smi and at whether NVIDIA's kernel module is loaded "
          "({}, /dev/nvidia*)",
          what, kKernelModule);
  }
}

ErrorCode code_of(Status status, ErrorCode otherwise) {
  switch (status) {
    case kErrorStubLibrary:
    case kErrorNoDevice:
      return ErrorCode::not_found;
    case kErrorSystemDriverMismatch:
    case kErrorCompatNotSupported:
      return ErrorCode::unsupported;
    default:
      return otherwise;
  }
}

}  // namespace

std::string file_of(void* library) {
  link_map* loaded = nullptr;
  if (dlinfo(library, RTLD_DI_LINKMAP, static_cast<void*>(&loaded)) != 0 || loaded == nullptr)
    return "(its place is not known)";
  std::error_code failed;
  const std::filesystem::path resolved = std::filesystem::canonical(loaded->l_name, failed);
  return failed ? loaded->l_name : resolved.native();
}

Error driver_refusal(Status status, const char* call, const std::string& library, Error plain) {
  // A stub does not even know the names of its errors.
  const std::string what = status == kErrorStubLibrary
                               ? fmt::format("{} returned CUDA_ERROR_STUB_LIBRARY ({})", call, status)
                               : std::move(plain.message);
  return Error{code_of(status, plain.code),
               fmt::format("the CUDA driver {} {}", library, explanation(status, what, library)), what};
}

Error driver_lacks(const char* symbol, int version, const std::string& library) {
  if (std::string_view(symbol) == "cuInit") {
    return Error{ErrorCode::unsupported,
                 fmt::format("{} is no CUDA driver, as it has no cuInit; {}", library, kGetDriver), ""};
  }
  const std::string supports =
      version > 0 ? fmt::format(" (it supports CUDA {})", cuda_version_text(version)) : "";
  return Error{
      ErrorCode::unsupported,
      fmt::format("the CUDA driver {} has no {}{}; lutsmith needs a driver for CUDA 12.0 or later: {}",
                  library, symbol, supports, kGetDriver),
      ""};
}

Error driver_too_old(int version, const std::string& library) {
  return Error{ErrorCode::unsupported,
               fmt::format("the CUDA driver {} supports CUDA {}; lutsmith needs 12.0 or later: {}", library,
                           cuda_version_text(version), kGetDriver),
               ""};
}

}  // namespace lutsmith::cuda
