#include "lutsmith/target.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <vector>

namespace lutsmith {
namespace {

/// Fitted to 620 specs that were tuned on an H100 SXM (docs/tuning.md).
constexpr MeasuredCosts kH100{.record = 22.72,
                              .ring = 31.78,
                              .activations = 47.18,
                              .ragged = 0.2545,
                              .missing_register = 0.04238,
                              .latency = 878.1,
                              .activations_latency = 179.9,
                              .third_stage_latency = 0,
                              .ragged_refill = 0.4424,
                              .block = 0.006121,
                              .uneven_launch = 0.4615,
                              .ring_start = 0.03904,
                              .priming = 0.2643,
                              .segment = 0.7201,
                              .reduction = 0.008217,
                              .fix_up = 5.811};

// A new GPU is a new row. Limits: CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability"; multiprocessors and bandwidth are of the common product's data sheet (A100, A40, L40S, H100,
// B200, B300, RTX PRO 6000, GB10), whose costs stand behind them where they were measured.
constexpr std::array kTargets{
    TargetTraits{"sm_80", 8, 0, 11010, false, false, false, 163 << 10, 164 << 10, 2048, true, 108, 2.0e12},
    TargetTraits{"sm_86", 8, 6, 11010, false, false, false, 99 << 10, 100 << 10, 1536, true, 84, 0.7e12},
    TargetTraits{"sm_89", 8, 9, 11080, false, false, false, 99 << 10, 100 << 10, 1536, true, 142, 0.86e12},
    TargetTraits{"sm_90a", 9, 0, 12000, true, true, true, 227 << 10, 228 << 10, 2048, false, 132, 3.35e12,
                 kH100},
    TargetTraits{"sm_100a", 10, 0, 12080, true, true, false, 227 << 10, 228 << 10, 2048, false, 148, 8.0e12},
    TargetTraits{"sm_103a", 10, 3, 12090, true, true, false, 227 << 10, 228 << 10, 2048, false, 148, 8.0e12},
    TargetTraits{"sm_120a", 12, 0, 12080, true, true, false, 99 << 10, 100 << 10, 1536, true, 188, 1.8e12},
    TargetTraits{"sm_121a", 12, 1, 12090, true, true, false, 99 << 10, 100 << 10, 1536, true, 48, 0.27e12},
};

constexpr TargetTraits kNative{"native", 0, 0, 0, false, false, false, 0, 0, 0, false, 0, 0};

std::vector<std::string_view> names() {
  std::vector<std::string_view> result;
  for (const TargetTraits& traits : kTargets) result.push_back(traits.name);
  return result;
}

}  // namespace

Target::Target() : traits_(&kNative) {}

Result<Target> Target::parse(std::string_view name) {
  for (const TargetTraits& traits : kTargets) {
    if (traits.name == name) return Target(&traits);
  }
  return std::unexpected(
      Error{ErrorCode::invalid_argument,
            fmt::format("target: '{}' is not known; allowed: {}", name, fmt::join(names(), ", ")),
            {}});
}

Result<Target> Target::from_compute_capability(int major, int minor) {
  for (const TargetTraits& traits : kTargets) {
    if (traits.major == major && traits.minor == minor) return Target(&traits);
  }
  return std::unexpected(Error{ErrorCode::unsupported,
                               fmt::format("target: no code is generated for compute capability {}.{}; "
                                           "known targets: {}",
                                           major, minor, fmt::join(names(), ", ")),
                               {}});
}

std::span<const TargetTraits> Target::all() { return kTargets; }

}  // namespace lutsmith
