#pragma once

#include <cstdint>
#include <vector>

#include "lutsmith/codegen.h"

namespace lutsmith::tuning {

/// Numbers of Stream-K partitions that are worth trying for `m` tokens, in rising order and each as a launch
/// would use it: half the multiprocessors to four blocks on each, the counts at which the waves of blocks are
/// just full, those that leave every tile whole, and what `partition` chooses by itself. Never empty for what
/// can be launched.
std::vector<int> partition_counts(const LaunchRecipe& recipe, std::int64_t m, int multiprocessors);

}  // namespace lutsmith::tuning
