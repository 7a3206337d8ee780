#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/verbs/report/bench_documents.h"
#include "lutsmith/error.h"

namespace lutsmith::cli {

/// Below this part of cuBLAS' speed a point is marked as slow.
inline constexpr double kSlow = 0.9;
/// Fewer tokens that take more than this times as long as some more tokens do are a cliff: less is noise.
inline constexpr double kCliff = 1.02;

/// Numbers of tokens that are summed up together: decoding, the first tile beyond, batches, prompts.
struct TokenRange {
  std::int64_t first = 1;
  std::int64_t last = 0;  ///< 0: no end
};
inline constexpr std::array<TokenRange, 5> kTokenRanges{
    {{1, 16}, {17, 32}, {33, 128}, {129, 1024}, {1025, 0}}};
/// "1 to 16", "above 1024".
std::string range_text(const TokenRange& range);

/// Speed against cuBLAS over a range of tokens.
struct RangeFigure {
  TokenRange range = {};
  std::size_t points = 0;  ///< that have both times
  std::size_t slow = 0;
  double mean = 0;  ///< geometric; 0 where there are no points
  double worst = 0;
};
using RangeFigures = std::array<RangeFigure, kTokenRanges.size()>;

/// One weight matrix, and what is made of its sums, over the number of tokens.
struct BenchSeries {
  WeightFormat format = {};
  std::string epilogue = {};             ///< as describe_epilogue says
  std::vector<std::string> layers = {};  ///< "llama3.1-8b tp2 qkv"
  std::vector<BenchPoint> points = {};   ///< by m

  /// The point with the least speed against cuBLAS; null where none has one.
  const BenchPoint* worst() const;
};

/// Layers of models whose layers have the same names and shapes.
struct BenchModel {
  struct Layer {
    std::string name;
    std::size_t series = 0;  ///< counts into the report's

    friend bool operator==(const Layer&, const Layer&) = default;
  };
  std::vector<std::string> names = {};  ///< empty: the shapes that were given by n and k
  int tp = 1;
  std::string weights = {};
  std::vector<Layer> layers = {};
};

/// A place where time rises although there are fewer tokens: from `first` to `m` tokens take longer than
/// `more` do, `m` longest.
struct Cliff {
  std::size_t series = 0;
  std::int64_t first = 0;
  std::int64_t m = 0;
  std::int64_t more = 0;
  double ratio = 0;  ///< time at m over that at `more`
};

/// A point that is slower than kSlow of cuBLAS, or that failed.
struct PointPlace {
  std::size_t series = 0;
  std::size_t point = 0;
};

/// Time at 17 tokens over that at 16, where the work of a tile is just exceeded.
struct TokenStep {
  std::size_t shapes = 0;
  double mean = 0;  ///< geometric
  double most = 0;
  std::size_t series = 0;  ///< that has the most
};

/// What `lutsmith report` shows of documents of `lutsmith bench`.
struct BenchReport {
  choices::Gpu gpu;
  std::vector<BenchRun> runs = {};
  std::vector<BenchSeries> series = {};  ///< by weights, n and k
  std::vector<BenchModel> models = {};   ///< in the order of the documents
  RangeFigures ranges = {};              ///< over all series
  std::vector<PointPlace> slow = {};     ///< slowest first
  std::vector<PointPlace> failed = {};
  std::vector<Cliff> cliffs = {};  ///< highest first
  std::optional<TokenStep> step = {};

  const BenchPoint& at(const PointPlace& place) const { return series[place.series].points[place.point]; }
  std::size_t count_points() const;
};

/// "w4 g128 f16 scalar", and ", silu gates" where something is made of the sums.
std::string weights_text(const BenchSeries& series);
/// "w4 g128 f16 scalar 4096x4096", and ", silu gates" likewise.
std::string series_name(const BenchSeries& series);

/// Over some of the series, each counted once.
RangeFigures range_figures(const std::vector<BenchSeries>& all, std::vector<std::size_t> which);
std::vector<std::size_t> series_of(const BenchModel& model);

/// Of the models named, or of all. Errors: not_found where there are no rows, or none of a model that was
/// named.
Result<BenchReport> make_bench_report(BenchDocuments documents, const std::vector<std::string>& models);

}  // namespace lutsmith::cli
