#pragma once

#include "cli/output/output.h"
#include "cli/verbs/report/tuning_report.h"

namespace lutsmith::cli {

/// Figures over all shapes.
struct ReportSummary {
  std::size_t shapes = 0;
  std::size_t tuned = 0;  ///< where the choice takes the default's place
  /// Where there are any such shapes, their median and the one at the end that matters.
  struct Figure {
    double median = 0;
    double extreme = 0;
  };
  std::optional<Figure> saved = {};         ///< of the tuned; extreme: the most
  Figure floor_share = {};                  ///< extreme: the least
  std::optional<Figure> fp16_speedup = {};  ///< extreme: the least
  Figure regret = {};                       ///< extreme: the most
};
ReportSummary summarize(const TuningReport& report);

/// What one kind of machine measured: same GPU, driver, compiler and version of lutsmith.
struct MeasuredOn {
  std::size_t gpu = 0;
  std::string driver = {}, compiler = {}, library = {};
  std::size_t shapes = 0;
  std::string first = {}, last = {};  ///< dates
  using Range = std::optional<std::pair<double, double>>;
  Range clock_mhz = {}, memory_clock_mhz = {}, power_watts = {}, temperature_celsius = {};
};
std::vector<MeasuredOn> machines(const TuningReport& report);

/// The whole report, as --json prints it and the HTML page holds it:
///
///   {"schema": 1, "library": "0.1.0", "sources": ["FILE", ...],
///    "gpus": [{"name", "multiprocessors", "target", "shapes"}, ...],
///    "summary": {"shapes", "tuned", "saved": {"median", "most"}, "floor_share": {"median", "least"}, ...},
///    "machines": [...],
///    "models": [{"names", "tp", "gpu", "weights", "layers": [{"name", "n", "k"}, ...],
///                "steps": [{"m", "microseconds", ..., "layers": [{"shape", "launches"}, ...]}, ...]}, ...],
///    "shapes": [...],                 `gpu` and `shape` count into the lists above and here
///    "against": null, or {"file", "tolerance", "slower", "faster", ..., "gone": [{"gpu", "name"}, ...]}}
///
/// Times are microseconds, parts are of 1, and null is what was not measured.
Json to_json(const TuningReport& report);

}  // namespace lutsmith::cli
