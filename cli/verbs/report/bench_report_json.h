#pragma once

#include "cli/output/output.h"
#include "cli/verbs/report/bench_report.h"

namespace lutsmith::cli {

/// The whole report, as --json prints it and the HTML page holds it:
///
///   {"schema": 1, "library": "0.1.0",
///    "gpu": {"name", "multiprocessors", "target"},
///    "runs": [{"file", "measured", "library", "driver", "cublas", "rows"}, ...],
///    "limits": {"slow", "cliff"},
///    "summary": {"shapes", "points", "failed", "ranges": RANGES,
///                "step": null, or {"shapes", "mean", "most", "shape"}},
///    "slow": [{"shape", "m", "speedup"}, ...],
///    "cliffs": [{"shape", "first", "m", "more", "ratio"}, ...],
///    "failed": [{"shape", "m", "error"}, ...],
///    "models": [{"names", "tp", "weights", "ranges": RANGES, "layers": [{"name", "shape"}, ...]}, ...],
///    "shapes": [{"name", "weights", "n", "k", "layers", "ranges": RANGES, "worst": null, or {"m",
///    "speedup"},
///                "points": [{"m", "microseconds", "cublas_microseconds", "floor_microseconds", "speedup",
///                            "schedule", "partitions", "error"}, ...]}, ...]}
///
/// RANGES: [{"text", "first", "last", "points", "slow", "mean", "worst"}, ...], the same ranges everywhere.
/// `shape` counts into the shapes, speeds are those of cuBLAS = 1, and null is what was not measured.
Json to_json(const BenchReport& report);

}  // namespace lutsmith::cli
