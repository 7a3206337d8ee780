#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "choices/document.h"
#include "cli/verbs/report/documents.h"
#include "lutsmith/error.h"

namespace lutsmith::cli {

/// What the cost model predicts for a schedule: microseconds by number of partitions.
struct Estimate {
  std::size_t schedule = 0;  ///< counts into the entry's
  int resident_blocks = 0;   ///< thread blocks that the GPU holds at a time: one wave
  std::vector<std::pair<int, double>> points = {};
};

/// A schedule with its best number of partitions.
struct Contender {
  choices::Timed best;
  double slower = 0;  ///< than the choice, as a part of the choice's time; negative: faster within the noise
};

/// What became of a shape since an older document.
enum class ChangeKind {
  same,       ///< within the tolerance
  slower,     ///< a regression
  faster,     ///< the opposite
  uncertain,  ///< moved, but one of the two was measured on a GPU that was not idle
  added,      ///< the older document does not have it
};
std::string_view to_string(ChangeKind kind);

struct Change {
  ChangeKind kind = ChangeKind::same;
  std::optional<double> before_microseconds = {};
};

/// An entry with what follows from it. Parts are of 1: 0.05 is 5 %.
struct ReportShape {
  std::size_t gpu = 0;  ///< counts into the report's
  const choices::Entry* entry = nullptr;
  std::vector<std::string> layers = {};    ///< "llama3.1-8b qkv", of the report's models
  double floor_microseconds = 0;           ///< the one that the chosen schedule can reach
  std::vector<Contender> contenders = {};  ///< fastest first
  std::vector<Estimate> estimates = {};    ///< of the chosen schedule and, where it is another, the default's
  std::optional<Change> change = {};       ///< where there is an older document

  double microseconds() const { return entry->choice.microseconds; }
  /// Of the default's time.
  double saved() const { return 1 - microseconds() / entry->standard.microseconds; }
  double floor_share() const { return floor_microseconds / microseconds(); }
  std::optional<double> fp16_speedup() const;
  /// How much slower the default is than the fastest that was measured.
  double regret() const;
  /// Now over before.
  std::optional<double> change_ratio() const;
  bool replaces_default() const;
};

/// A layer of a model at some number of tokens.
struct LayerTime {
  std::size_t shape = 0;  ///< counts into the report's
  int launches = 0;       ///< for one pass through the model
};

/// One pass of `m` tokens through all linear layers of one GPU's share of a model. Experts: the tokens are
/// spread evenly over as many as they can reach.
struct ModelStep {
  std::int64_t m = 0;
  std::vector<LayerTime> layers = {};  ///< as the model's
  double microseconds = 0;
  double default_microseconds = 0;
  double floor_microseconds = 0;
  std::optional<double> fp16_microseconds = {};  ///< where every layer has one
};

struct ReportLayer {
  std::string name;
  std::int64_t n = 0;
  std::int64_t k = 0;
};

/// Models of the same layers, all of which were tuned for some number of tokens.
struct ReportModel {
  std::vector<std::string> names = {};
  int tp = 1;
  std::size_t gpu = 0;
  std::string weights = {};  ///< "w4 g128 f16 scalar"
  std::vector<ReportLayer> layers = {};
  std::vector<ModelStep> steps = {};  ///< by m
};

struct Comparison {
  std::string file;
  double tolerance = 0;  ///< a change below it means nothing, however small the noise
  std::vector<std::pair<choices::Gpu, std::string>> gone;  ///< what only the older document has
};

struct ReportOptions {
  std::vector<std::string> models = {};  ///< only these and their shapes; empty: all that are complete
  double tolerance = 0.02;
};

/// What `lutsmith report` shows, before it is written as text, JSON, Markdown or HTML.
struct TuningReport {
  TunedDocuments tuned = {};
  std::vector<ReportShape> shapes = {};  ///< by GPU, weights, m, n and k
  std::vector<ReportModel> models = {};
  std::optional<Comparison> against = {};

  const choices::Gpu& gpu(std::size_t i) const { return tuned.documents[i].gpu(); }
  std::size_t count_changes(ChangeKind kind) const;
  /// Shapes whose measurement is not to be trusted.
  std::size_t count_doubtful() const;
  /// Shapes measured while the GPU was at its power limit.
  std::size_t count_power_capped() const;
};

/// "w4 g128 4096x4096 m1 f16 scalar": a spec without its target.
std::string shape_name(const KernelSpec& spec);
/// "w4 g128 f16 scalar": the same without n, k and m.
std::string weights_name(const WeightFormat& format);

/// Which models' layers the shapes are, and how long a pass takes; fills in the shapes' `layers`. Of the
/// models named, or of all known ones that are complete. Errors: those of make_report about models.
Result<std::vector<ReportModel>> match_models(std::vector<ReportShape>& shapes,
                                              const std::vector<std::string>& names);

/// The middle one of some values, of two the mean; 0 for none.
double median(std::vector<double> values);

/// Errors: not_found where there is nothing to show, and where a model that was named is not complete, with
/// what is missing; invalid_argument for a name of no known model.
Result<TuningReport> make_report(TunedDocuments tuned, const ReportOptions& options);

/// Marks what changed since an older document. Error: invalid_argument where it is of another GPU than all of
/// the report's.
Result<void> compare(TuningReport& report, const choices::Document& older, std::string file,
                     const ReportOptions& options);

}  // namespace lutsmith::cli
