#include "quant/clusters.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace lutsmith::quant {
namespace {

/// Cuts a row of bins into clusters, one cluster more at a time.
class Partition {
 public:
  explicit Partition(std::span<const Bin> bins) : sums_(1) {
    for (const Bin& bin : bins) {
      if (!(bin.mass > 0)) continue;
      sums_.push_back(sums_.back());
      sums_.back() += bin;
    }
  }

  [[nodiscard]] std::size_t bins() const { return sums_.size() - 1; }

  /// clusters <= bins()
  std::vector<double> means(std::size_t clusters) {
    best_.assign(bins() + 1, -std::numeric_limits<double>::infinity());
    best_[0] = 0;
    for (std::size_t i = 0; i < clusters; ++i) {
      starts_.emplace_back(bins() + 1);
      next_.assign(bins() + 1, -std::numeric_limits<double>::infinity());
      fill({1, bins()}, {0, bins() - 1});
      std::swap(best_, next_);
    }
    std::vector<double> result(clusters);
    std::size_t end = bins();
    for (std::size_t i = clusters; i-- > 0;) {
      const std::size_t start = starts_[i][end];
      result[i] = mean(start, end);
      end = start;
    }
    return result;
  }

 private:
  struct Range {
    std::size_t first;
    std::size_t last;
  };

  [[nodiscard]] double mean(std::size_t start, std::size_t end) const {
    return (sums_[end].moment - sums_[start].moment) / (sums_[end].mass - sums_[start].mass);
  }

  /// How much less than all squares a cluster leaves: squares minus those around its mean.
  [[nodiscard]] double gain(std::size_t start, std::size_t end) const {
    const double moment = sums_[end].moment - sums_[start].moment;
    return moment * moment / (sums_[end].mass - sums_[start].mass);
  }

  /// For every end in `ends`, where the last cluster starts; it never moves down as the end moves up, which
  /// leaves each half of the ends with a part of the starts.
  void fill(const Range& ends, const Range& starts) {
    const std::size_t end = (ends.first + ends.last) / 2;
    double most = -std::numeric_limits<double>::infinity();
    std::size_t at = starts.first;
    for (std::size_t start = starts.first; start <= std::min(starts.last, end - 1); ++start) {
      const double gained = best_[start] + gain(start, end);
      if (gained > most) {
        most = gained;
        at = start;
      }
    }
    next_[end] = most;
    starts_.back()[end] = static_cast<std::uint32_t>(at);
    if (end > ends.first) fill({ends.first, end - 1}, {starts.first, at});
    if (end < ends.last) fill({end + 1, ends.last}, {at, starts.last});
  }

  std::vector<Bin> sums_;     // of the bins before
  std::vector<double> best_;  // gain of the bins before, in the clusters so far; -infinity: too few bins
  std::vector<double> next_;
  std::vector<std::vector<std::uint32_t>> starts_;  // of each number of clusters, by end
};

}  // namespace

std::vector<double> cluster_means(std::span<const Bin> bins, std::size_t count) {
  Partition partition(bins);
  const std::size_t clusters = std::min(count, partition.bins());
  std::vector<double> means = partition.means(clusters);
  means.resize(count, means.back());
  return means;
}

}  // namespace lutsmith::quant
