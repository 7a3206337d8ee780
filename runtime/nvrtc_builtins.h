#pragma once

#include <string>

#include "lutsmith/error.h"

namespace lutsmith {

/// Opens the library of NVRTC's built-ins (what every source finds declared) that lies beside the libnvrtc
/// that was opened as `named` and that the loader found at `loaded`.
///
/// NVRTC asks for it by its bare name at the first compile, and the loader does not look beside whoever asks
/// unless that library has a run path, which the one in the wheel of CUDA 13.0 has not. What is loaded
/// already satisfies that request, wherever it lies; and so it is the built-ins of this NVRTC, not those of
/// another build that the loader would find. Stays open as NVRTC does. Errors: not_found, corrupt_data.
Result<void> open_nvrtc_builtins(const std::string& named, const std::string& loaded, int major, int minor);

}  // namespace lutsmith
