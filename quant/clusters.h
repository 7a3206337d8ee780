#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace lutsmith::quant {

/// Numbers that lie next to each other: how much they count, and the sum of numbers times that.
struct Bin {
  double mass = 0;
  double moment = 0;

  Bin& operator+=(const Bin& other) {
    mass += other.mass;
    moment += other.moment;
    return *this;
  }
};

/// Means of the `count` clusters of neighbouring bins that leave the least sum of squared distances, mass by
/// mass, between numbers and the mean of their cluster; ascending as the bins are. Exact, by dynamic
/// programming (Wang and Song, Ckmeans.1d.dp: Optimal k-means Clustering in One Dimension, 2011; with divide
/// and conquer over the monotone splits, Groenlund et al., Fast Exact k-Means, k-Medians and Bregman
/// Divergence Clustering in 1D, 2017). Where there are fewer bins with mass than clusters, the last mean is
/// repeated. `bins` has at least one with mass.
std::vector<double> cluster_means(std::span<const Bin> bins, std::size_t count);

}  // namespace lutsmith::quant
