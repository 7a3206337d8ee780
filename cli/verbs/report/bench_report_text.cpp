#include "cli/verbs/report/bench_report_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/verbs/report/markdown.h"
#include "cli/verbs/report/report_text.h"
#include "cli/verbs/report/tuning_report.h"
#include "lutsmith/version.h"

namespace lutsmith::cli {
namespace {

constexpr std::size_t kMostPrinted = 10;
constexpr std::size_t kMostWritten = 1000;

/// 0.874 -> "0.87x": two digits, since 0.9 is where a point is marked.
std::string speed_text(std::optional<double> speed) { return speed ? fmt::format("{:.2f}x", *speed) : "-"; }

std::string layers_text(const BenchSeries& series) {
  if (series.layers.size() <= 2) return fmt::format("{}", fmt::join(series.layers, ", "));
  return fmt::format("{}, {} and {} more", series.layers[0], series.layers[1], series.layers.size() - 2);
}

std::size_t count_compared(const BenchReport& report) {
  std::size_t count = 0;
  for (const RangeFigure& each : report.ranges) count += each.points;
  return count;
}

/// "16 (from 8 on)".
std::string cliff_tokens(const Cliff& cliff) {
  return cliff.first == cliff.m ? fmt::to_string(cliff.m)
                                : fmt::format("{} (from {} on)", cliff.m, cliff.first);
}

void print_table(const BenchTable& table) {
  std::vector<TextTable::Column> columns;
  for (const std::string& title : table.titles) {
    const bool number = title.starts_with(' ');
    columns.push_back(
        {number ? title.substr(1) : title, number ? TextTable::Align::right : TextTable::Align::left});
  }
  TextTable text(columns);
  for (const std::vector<std::string>& row : table.rows) text.add_row(row);
  text.print();
}

void print_more(std::size_t all) {
  if (all > kMostPrinted) print_output(fmt::format("and {} more: see --json\n", all - kMostPrinted));
}

std::string section(std::string_view title, std::string_view about, const BenchTable& table) {
  if (table.rows.empty()) return {};
  MarkdownTable markdown(table.titles);
  for (const std::vector<std::string>& row : table.rows) markdown.add(row);
  return fmt::format("## {}\n\n{}\n\n{}\n", title, about, markdown.text);
}

std::string times_section(const BenchReport& report) {
  std::string text = "## Times\n\n";
  for (const BenchSeries& series : report.series) {
    text +=
        fmt::format("**{}**{}\n\n", series_name(series),
                    series.layers.empty() ? "" : fmt::format(" ({})", markdown_text(layers_text(series))));
    MarkdownTable table(
        {" m", " µs", " cuBLAS, µs", " Against cuBLAS", " Floor, µs", " Partitions", "Schedule"});
    for (const BenchPoint& point : series.points) {
      table.add({fmt::to_string(point.spec.m),
                 point.microseconds ? microseconds_text(point.microseconds) : "failed",
                 microseconds_text(point.cublas_microseconds), speed_text(point.speedup()),
                 microseconds_text(point.floor_microseconds), fmt::to_string(point.partitions),
                 point.schedule});
    }
    text += table.text + "\n";
  }
  return text;
}

std::string runs_section(const BenchReport& report) {
  MarkdownTable table({"File", "When", " Rows", "Driver", "cuBLAS", "lutsmith"});
  const auto known = [](const std::string& text) { return text.empty() ? "-" : text; };
  for (const BenchRun& run : report.runs) {
    table.add({run.file, known(run.measured), fmt::to_string(run.rows), known(run.driver), known(run.cublas),
               known(run.library)});
  }
  return "## Where this was measured\n\n" + table.text;
}

}  // namespace

std::vector<std::string> summary_lines(const BenchReport& report) {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{} of {}{}", counted(report.count_points(), "point"),
                              counted(report.series.size(), "shape"),
                              report.failed.empty() ? "" : fmt::format(", {} failed", report.failed.size())));
  if (count_compared(report) == 0) lines.emplace_back("no times of cuBLAS to compare with");
  for (const RangeFigure& each : report.ranges) {
    if (each.points == 0) continue;
    lines.push_back(fmt::format("{} tokens: {} as fast as 16-bit weights (geometric mean of {}), at least {}",
                                range_text(each.range), speed_text(each.mean), counted(each.points, "point"),
                                speed_text(each.worst)));
  }
  if (count_compared(report) > 0) {
    lines.push_back(fmt::format("{} slower than {} of cuBLAS", counted(report.slow.size(), "point"), kSlow));
  }
  lines.push_back(fmt::format("{} where fewer tokens take longer", counted(report.cliffs.size(), "place")));
  if (report.step) {
    lines.push_back(fmt::format("from 16 to 17 tokens: {} the time (geometric mean), at most {} ({})",
                                speed_text(report.step->mean), speed_text(report.step->most),
                                series_name(report.series[report.step->series])));
  }
  return lines;
}

BenchTable shapes_table(const BenchReport& report) {
  BenchTable table{.titles = {"Shape", "Layers", " Worst", " at m"}};
  for (const RangeFigure& each : report.ranges) {
    if (each.points > 0) table.titles.push_back(" m " + range_text(each.range));
  }
  for (std::size_t i = 0; i < report.series.size(); ++i) {
    const BenchSeries& series = report.series[i];
    const BenchPoint* worst = series.worst();
    std::vector<std::string> row{series_name(series), layers_text(series),
                                 worst == nullptr ? "-" : speed_text(worst->speedup()),
                                 worst == nullptr ? "-" : fmt::to_string(worst->spec.m)};
    const RangeFigures figures = range_figures(report.series, {i});
    for (std::size_t range = 0; range < figures.size(); ++range) {
      if (report.ranges[range].points == 0) continue;
      row.push_back(figures[range].points == 0 ? "-" : speed_text(figures[range].mean));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

BenchTable slow_table(const BenchReport& report, std::size_t most) {
  BenchTable table{
      .titles = {"Slower than cuBLAS", " m", " us", " cuBLAS us", " Against cuBLAS", "Schedule"}};
  for (const PointPlace& place : report.slow) {
    if (table.rows.size() == most) break;
    const BenchPoint& point = report.at(place);
    table.rows.push_back({series_name(report.series[place.series]), fmt::to_string(point.spec.m),
                          microseconds_text(point.microseconds), microseconds_text(point.cublas_microseconds),
                          speed_text(point.speedup()), point.schedule});
  }
  return table;
}

BenchTable cliffs_table(const BenchReport& report, std::size_t most) {
  BenchTable table{.titles = {"Fewer tokens take longer", " m", " than m", " Time"}};
  for (const Cliff& cliff : report.cliffs) {
    if (table.rows.size() == most) break;
    table.rows.push_back({series_name(report.series[cliff.series]), cliff_tokens(cliff),
                          fmt::to_string(cliff.more), speed_text(cliff.ratio)});
  }
  return table;
}

BenchTable failures_table(const BenchReport& report, std::size_t most) {
  BenchTable table{.titles = {"Failed", " m", "Why"}};
  for (const PointPlace& place : report.failed) {
    if (table.rows.size() == most) break;
    const BenchPoint& point = report.at(place);
    table.rows.push_back(
        {series_name(report.series[place.series]), fmt::to_string(point.spec.m), point.failure});
  }
  return table;
}

void print_report(const BenchReport& report) {
  print_output(choices::describe(report.gpu) + "\n");
  for (const std::string& line : summary_lines(report)) print_output("  " + line + "\n");
  print_table(shapes_table(report));
  print_table(slow_table(report, kMostPrinted));
  print_more(report.slow.size());
  print_table(cliffs_table(report, kMostPrinted));
  print_more(report.cliffs.size());
  print_table(failures_table(report, kMostPrinted));
  print_more(report.failed.size());
}

std::string report_markdown(const BenchReport& report) {
  std::string text =
      fmt::format("# Time over the number of tokens\n\n{}\n\n", markdown_text(choices::describe(report.gpu)));
  for (const std::string& line : summary_lines(report)) text += fmt::format("- {}\n", line);
  text += "\n";
  text += section("Slower than cuBLAS", fmt::format("Points below {} of its speed, slowest first.", kSlow),
                  slow_table(report, kMostWritten));
  text += section("Cliffs", fmt::format("Where fewer tokens take more than {} times as long.", kCliff),
                  cliffs_table(report, kMostWritten));
  text += section("Failures", "These have no times.", failures_table(report, kMostWritten));
  text += section("Shapes", "Speed against cuBLAS with 16-bit weights: the worst, and geometric means.",
                  shapes_table(report));
  text += times_section(report) + runs_section(report);
  return text + fmt::format("\nWritten by lutsmith {}.\n", LUTSMITH_VERSION_STRING);
}

}  // namespace lutsmith::cli
