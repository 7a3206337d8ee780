#include "cli/verbs/tune/regret.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace lutsmith::cli {

Regret regret(std::span<const choices::Entry* const> entries) {
  Regret result;
  result.specs = entries.size();
  if (entries.empty()) return result;
  std::vector<double> all;
  for (const choices::Entry* entry : entries) {
    const double each = entry->standard.microseconds / entry->choice.microseconds - 1;
    if (result.worst_entry == nullptr || each > result.worst) {
      result.worst = each;
      result.worst_entry = entry;
    }
    all.push_back(each);
  }
  std::ranges::sort(all);
  result.median = all[all.size() / 2];
  result.mean = std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
  return result;
}

Json regret_json(const Regret& regret) {
  Json json{{"specs", regret.specs},
            {"median_regret", regret.median},
            {"mean_regret", regret.mean},
            {"worst_regret", regret.worst}};
  if (regret.worst_entry != nullptr) json["worst_spec"] = describe(regret.worst_entry->spec);
  return json;
}

void print_regret(const Regret& regret) {
  if (regret.worst_entry == nullptr) return;
  print_output(fmt::format(
      "the cost model's first choice over the best: median {:.1f} %, mean {:.1f} %, worst {:.1f} % ({})\n",
      100 * regret.median, 100 * regret.mean, 100 * regret.worst, describe(regret.worst_entry->spec)));
}

}  // namespace lutsmith::cli
