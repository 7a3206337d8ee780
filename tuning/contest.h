#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lutsmith/error.h"
#include "measure/timing.h"

namespace lutsmith::tuning {

/// How contenders came off.
struct Standing {
  double microseconds = 0;   ///< median per launch
  double relative = 0;       ///< median over the rounds of its time in units of the standard's in that round
  double relative_even = 0;  ///< the same over every other round,
  double relative_odd = 0;   ///< and over the rounds between
  double spread = 0;         ///< of the times, see measure::Statistics
  int rounds = 0;
  bool withdrawn = false;
};

struct ContestOptions {
  std::size_t standards = 1;  ///< the first contenders are repeats of the standard; they are never withdrawn
  std::size_t keep = 4;       ///< the others are halved down to this many
  int heat_rounds = 4;        ///< between two withdrawals
  int final_rounds = 12;      ///< that those who are kept take part in, at least; no fewer than a heat's
};

/// Times contenders in turns. After each heat the slower half of those that are no standards is withdrawn
/// (successive halving: Jamieson and Talwalkar 2016, section 3), judged by the lower quartile of their times:
/// whatever disturbs a GPU makes it slower, never faster, and it does not hit a contender in most rounds
/// without hitting the others.
Result<std::vector<Standing>> contest(measure::Device& device, std::span<const measure::Contender> contenders,
                                      const ContestOptions& options);

/// How far apart the medians of contenders that are equal may lie, as a part of the standard's time: what its
/// repeats differ by, or three standard errors of the difference of two medians, whichever is more.
double noise(std::span<const Standing> standards);

}  // namespace lutsmith::tuning
