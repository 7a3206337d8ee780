#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>

#include "core/field_text.h"
#include "lutsmith/choice.h"
#include "lutsmith/codegen.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith {

/// What a caller asks for.
struct Request {
  KernelSpec spec;
  std::optional<Choice> choice;  ///< nothing: the service's

  friend bool operator==(const Request&, const Request&) = default;
};

/// The request for the kernel that serves a spec and all others of its token bucket: whoever asks for every
/// number of tokens that comes along makes and loads a few kernels, no more.
inline Request request_for(const KernelSpec& spec, const std::optional<Choice>& choice) {
  Request request{.spec = spec, .choice = choice};
  request.spec.m = token_bucket(spec.m);
  return request;
}

/// The command that puts such a kernel into the cache.
inline std::string warm_command(const Request& request) {
  std::string command = "lutsmith compile" + core::command_options(request.spec);
  if (request.choice) {
    const Schedule& schedule = request.choice->schedule;
    command += fmt::format(" --family {}", core::family_of(schedule));
    command += std::visit([](const auto& own) { return core::command_options(own); }, schedule);
  }
  return command;
}

/// Every field times a factor of its own, so that no product waits for another.
class RequestHash {
 public:
  std::size_t operator()(const Request& request) const noexcept {
    Sum sum;
    visit_fields(request.spec, sum);
    if (request.choice) {
      sum.add(request.choice->schedule.index() + 1);
      sum.add(static_cast<std::uint64_t>(request.choice->partitions));
      std::visit([&sum](const auto& own) { visit_fields(own, sum); }, request.choice->schedule);
    }
    const std::uint64_t folded = (sum.total ^ sum.total >> 32U) * kFactor;
    return static_cast<std::size_t>(folded ^ folded >> 32U);
  }

 private:
  static constexpr std::uint64_t kFactor = 0x9E3779B97F4A7C15U;  // 2^64 / golden ratio

  struct Sum {
    std::uint64_t total = 0;
    std::uint64_t factor = kFactor;

    void add(std::uint64_t value) {
      total += value * factor;
      factor *= kFactor;
    }
    template <class Value>
    void operator()(const FieldInfo& /*field*/, const Value& value) {
      if constexpr (std::is_same_v<Value, Target>) {
        add(std::hash<const void*>()(value.name().data()));  // one row of one table per target
      } else {
        add(static_cast<std::uint64_t>(value));
      }
    }
  };
};

}  // namespace lutsmith
