#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "cli/options/spec_request.h"
#include "cli/output/kernel_json.h"
#include "cli/output/output.h"
#include "cli/verbs/bench/session.h"

namespace lutsmith::cli {

/// A kernel under test: a schedule (nothing: the model's first choice) and a number of partitions (0: the
/// library's choice).
struct BenchVariant {
  std::optional<Schedule> schedule;
  int partitions = 0;
};

/// One kernel's measurement. Where `failure` is set nothing else but the request and variant is.
struct BenchRow {
  KernelRequest request;
  BenchVariant variant;
  std::optional<Error> failure;
  Schedule schedule;
  int partitions = 0;      ///< that the launch used
  bool is_default = true;  ///< the schedule and partitions a plain request would get
  std::size_t bytes = 0;   ///< packed
  double error = 0;        ///< relative, against float64
  double microseconds = 0;
  measure::Bounds bounds;

  double gigabytes_per_second() const;
  /// Time in units of the floor that the schedule can reach: the dependent one's where it uses that.
  double floor_ratio() const;
  std::optional<double> cublas_speedup() const;
};

/// The GPU and cuBLAS that a run used.
Json to_json(const BenchSession& session);
Json to_json(const BenchRow& row);

/// One line per kernel, then the errors. `sweep` shows schedules instead of layers.
void print_rows(const BenchSession& session, const std::vector<BenchRow>& rows, bool sweep);

}  // namespace lutsmith::cli
