#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "lutsmith/codegen.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith {

/// What a caller asks for.
struct Request {
  KernelSpec spec;
  std::optional<Schedule> schedule;

  friend bool operator==(const Request&, const Request&) = default;
};

/// The request for the kernel that serves a spec and all others of its token bucket: whoever asks for every
/// number of tokens that comes along makes and loads a few kernels, no more.
inline Request request_for(const KernelSpec& spec, const std::optional<Schedule>& schedule) {
  Request request{.spec = spec, .schedule = schedule};
  request.spec.m = token_bucket(spec.m);
  return request;
}

struct RequestHash {
  std::size_t operator()(const Request& request) const noexcept {
    std::uint64_t hash = 0;
    const auto mix = [&hash](std::uint64_t value) {
      hash = (hash ^ value) * 0x9E3779B97F4A7C15U;  // 2^64 / golden ratio spreads neighbouring numbers
      hash ^= hash >> 32U;
    };
    const KernelSpec& spec = request.spec;
    mix(static_cast<std::uint64_t>(spec.format.n));
    mix(static_cast<std::uint64_t>(spec.format.k));
    mix(static_cast<std::uint64_t>(spec.m));
    mix(static_cast<std::uint64_t>(spec.format.bits) << 32U | static_cast<std::uint32_t>(spec.format.group));
    mix(static_cast<std::uint64_t>(spec.format.dtype) << 8U | static_cast<std::uint64_t>(spec.format.table));
    mix(std::hash<const void*>()(spec.target.name().data()));  // one row of one table per target
    if (request.schedule) {
      const Schedule& schedule = *request.schedule;
      mix(static_cast<std::uint64_t>(schedule.tile_rows) << 32U |
          static_cast<std::uint32_t>(schedule.tile_tokens));
      mix(static_cast<std::uint64_t>(schedule.warps) << 32U | static_cast<std::uint32_t>(schedule.stages));
      mix(static_cast<std::uint64_t>(schedule.blocks_per_multiprocessor) << 32U |
          static_cast<std::uint64_t>(schedule.weights) << 1U |
          static_cast<std::uint64_t>(schedule.dependent_launch));
    }
    return static_cast<std::size_t>(hash);
  }
};

}  // namespace lutsmith
