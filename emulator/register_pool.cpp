#include "emulator/register_pool.h"

#include <fmt/format.h>

#include <algorithm>

#include "emulator/clock.h"
#include "emulator/fault.h"

namespace lutsmith::emulator {
namespace {

constexpr int kAll = 65536;
constexpr int kUnit = 8;
constexpr int kFewest = 24;
constexpr int kMost = 256;

const char* name_of(const RegisterPool::Call& call) { return call.claim ? "claims" : "gives up all but"; }

std::size_t warpgroup_of(int thread) { return static_cast<std::size_t>(thread / kWarpgroupThreads); }

}  // namespace

RegisterPool::RegisterPool(int threads)
    : held_(static_cast<std::size_t>(threads), std::min(kAll / threads / kUnit * kUnit, kMost)),
      made_(static_cast<std::size_t>(threads)),
      calls_(warpgroup_of(threads + kWarpgroupThreads - 1)) {}

void RegisterPool::check(int thread, const Call& call) {
  const auto index = static_cast<std::size_t>(thread);
  if (call.registers % kUnit != 0 || call.registers < kFewest || call.registers > kMost) {
    throw Fault(fmt::format("{} {} registers; allowed: multiples of 8 from 24 to 256", name_of(call),
                            call.registers));
  }
  std::vector<Call>& calls = calls_[warpgroup_of(thread)];
  if (made_[index] == calls.size()) calls.push_back(call);
  const Call& first = calls[made_[index]++];
  if (first.claim != call.claim || first.registers != call.registers) {
    throw Fault(fmt::format("{} {} registers, while its warpgroup {} {} at line {}", name_of(call),
                            call.registers, name_of(first), first.registers, first.line));
  }
  // What the compiler really took for the launch may be less than the share of all.
  const bool first_call = made_[index] == 1;
  if (call.claim ? call.registers < held_[index] && !first_call : call.registers > held_[index]) {
    throw Fault(fmt::format("{} {} registers, but has {}", name_of(call), call.registers, held_[index]));
  }
}

bool RegisterPool::take(int thread, const Call& call) {
  int& held = held_[static_cast<std::size_t>(thread)];
  if (call.registers - held > free_) return false;
  free_ -= call.registers - held;
  held = call.registers;
  return true;
}

void RegisterPool::check_end(int block) const {
  for (std::size_t thread = 0; thread < made_.size(); ++thread) {
    const auto& calls = calls_[thread / kWarpgroupThreads];
    if (made_[thread] == calls.size()) continue;
    const Call& missing = calls[made_[thread]];
    throw Fault(fmt::format("block {}: thread {} has ended, but its warpgroup {} {} registers at line {}",
                            block, thread, name_of(missing), missing.registers, missing.line));
  }
}

}  // namespace lutsmith::emulator
