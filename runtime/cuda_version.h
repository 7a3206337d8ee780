#pragma once

#include <string>

namespace lutsmith {

/// A version as the driver and NVRTC count it, 1000 * major + 10 * minor, in words: "12.9".
inline std::string cuda_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace lutsmith
