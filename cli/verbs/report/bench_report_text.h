#pragma once

#include <string>
#include <vector>

#include "cli/verbs/report/bench_report.h"

namespace lutsmith::cli {

/// A sentence for each figure over all shapes.
std::vector<std::string> summary_lines(const BenchReport& report);

/// Titles and cells of one table, for a terminal and for Markdown. A title that begins with a blank is of a
/// column of numbers.
struct BenchTable {
  std::vector<std::string> titles;
  std::vector<std::vector<std::string>> rows = {};
};
/// Each shape's speed against cuBLAS: worst, and over ranges of tokens.
BenchTable shapes_table(const BenchReport& report);
/// At most `most` rows of the slow points, slowest first, of the cliffs and of what failed.
BenchTable slow_table(const BenchReport& report, std::size_t most);
BenchTable cliffs_table(const BenchReport& report, std::size_t most);
BenchTable failures_table(const BenchReport& report, std::size_t most);

/// A few lines for a terminal, on standard output.
void print_report(const BenchReport& report);

/// The report as GitHub and others render it: tables instead of charts.
std::string report_markdown(const BenchReport& report);

}  // namespace lutsmith::cli
