#pragma once

#include <cstddef>
#include <span>

#include "choices/document.h"
#include "cli/output/output.h"

namespace lutsmith::cli {

/// How much longer the cost model's first choice takes than the best that was measured, as a part of that.
struct Regret {
  std::size_t specs = 0;
  double median = 0;
  double mean = 0;
  double worst = 0;
  const choices::Entry* worst_entry = nullptr;
};

/// All zero without entries, which must outlive the result.
Regret regret(std::span<const choices::Entry* const> entries);

Json regret_json(const Regret& regret);
void print_regret(const Regret& regret);

}  // namespace lutsmith::cli
