#include "cli/verbs/bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>

#include "cli/verbs/cache/cache_access.h"
#include "lutsmith/version.h"
#include "runtime/cuda_version.h"

namespace lutsmith::cli {
namespace {

std::string time_cell(const std::optional<double>& microseconds) {
  return microseconds ? fmt::format("{:.2f}", *microseconds) : "-";
}

Json time_json(const std::optional<double>& microseconds) {
  return microseconds ? Json(std::round(*microseconds * 1000) / 1000) : Json(nullptr);
}

std::optional<double> dependent_microseconds(const measure::FloorTimes& floor) {
  if (!floor.dependent) return std::nullopt;
  return floor.dependent->microseconds;
}

bool any_epilogue(const std::vector<BenchRow>& rows) {
  return std::ranges::any_of(
      rows, [](const BenchRow& row) { return !describe_epilogue(row.request.spec).empty(); });
}

bool any_gates(const std::vector<BenchRow>& rows) {
  return std::ranges::any_of(rows, [](const BenchRow& row) { return row.request.spec.gated != Gate::none; });
}

std::vector<TextTable::Column> columns(bool sweep, bool epilogue) {
  using enum TextTable::Align;
  std::vector<TextTable::Column> result{{"N"},       {"K"},        {"m"},         {"bits"},     {"group"},
                                        {"us"},      {"GB/s"},     {"cuBLAS us"}, {"x cuBLAS"}, {"floor us"},
                                        {"+PDL us"}, {"of floor"}, {"rel. error"}};
  if (epilogue) result.insert(result.begin() + 5, {"epilogue", left});
  if (!sweep) result.insert(result.begin(), {"layer", left});
  result.push_back({"partitions"});
  result.push_back({"schedule", left});
  return result;
}

void print_failures(const std::vector<BenchRow>& rows) {
  for (const BenchRow& row : rows) {
    if (!row.failure) continue;
    Error error = *row.failure;
    const std::string schedule = row.variant.schedule ? ", " + describe(*row.variant.schedule) : "";
    error.message = fmt::format("{}{}: {}", describe(row.request.spec), schedule, error.message);
    print_error(error, /*json=*/false);
  }
}

}  // namespace

double BenchRow::gigabytes_per_second() const { return static_cast<double>(bytes) / microseconds * 1e-3; }

double BenchRow::floor_ratio() const {
  const measure::FloorTimes& floor = bounds.floor;
  const bool asked_for = std::visit([](const auto& own) { return own.dependent_launch; }, schedule);
  const bool dependent = asked_for && floor.dependent;
  return microseconds / (dependent ? *floor.dependent : floor.plain).microseconds;
}

std::optional<double> BenchRow::cublas_speedup() const {
  if (!bounds.cublas) return std::nullopt;
  return *bounds.cublas / microseconds;
}

Json to_json(const BenchSession& session) {
  Json json{{"gpu", session.gpu().name},
            {"target", session.target().name()},
            {"multiprocessors", session.gpu().multiprocessors},
            {"l2_bytes", session.gpu().l2_bytes},
            {"driver", session.driver().version()},
            {"library", LUTSMITH_VERSION_STRING},
            {"measured", time_json(std::chrono::system_clock::now())}};
  json["cublas"] = session.cublas() != nullptr ? Json(session.cublas()->version()) : Json(nullptr);
  if (session.cublas() == nullptr) json["cublas_note"] = session.cublas_note();
  return json;
}

Json to_json(const BenchRow& row) {
  Json json = model_fields(row.request);
  json["spec"] = to_json(row.request.spec);
  if (row.failure) {
    if (row.variant.schedule) json["schedule"] = to_json(*row.variant.schedule);
    json["partitions"] = row.variant.partitions;
    json["error"] = to_json(*row.failure);
    return json;
  }
  json["schedule"] = to_json(row.schedule);
  json["partitions"] = row.partitions;
  json["default"] = row.is_default;
  json["bytes"] = row.bytes;
  json["microseconds"] = time_json(row.microseconds);
  json["gigabytes_per_second"] = std::round(row.gigabytes_per_second() * 10) / 10;
  json["cublas_microseconds"] = time_json(row.bounds.cublas);
  json["cublas_speedup"] = time_json(row.cublas_speedup());
  const measure::FloorTimes& floor = row.bounds.floor;
  json["floor_microseconds"] = time_json(floor.plain.microseconds);
  json["floor_variant"] = floor.plain.variant;
  json["floor_dependent_microseconds"] = time_json(dependent_microseconds(floor));
  json["floor_dependent_variant"] = floor.dependent ? floor.dependent->variant : "";
  json["floor_ratio"] = time_json(row.floor_ratio());
  json["relative_error"] = row.error;
  return json;
}

void print_rows(const BenchSession& session, const std::vector<BenchRow>& rows, bool sweep) {
  fmt::print("{}, {} multiprocessors, {} of L2, driver {}\n", session.gpu().name,
             session.gpu().multiprocessors, byte_count(session.gpu().l2_bytes),
             cuda_version_text(session.driver().version()));
  if (session.cublas() == nullptr) fmt::print("no cuBLAS times: {}\n", session.cublas_note());
  const bool epilogue = any_epilogue(rows);
  TextTable table(columns(sweep, epilogue));
  for (const BenchRow& row : rows) {
    if (row.failure) continue;
    const KernelSpec& spec = row.request.spec;
    const std::optional<double> speedup = row.cublas_speedup();
    std::vector<std::string> cells{fmt::to_string(spec.format.n),
                                   fmt::to_string(spec.format.k),
                                   fmt::to_string(spec.m),
                                   fmt::to_string(spec.format.bits),
                                   group_name(spec.format.group) + (spec.format.offsets ? " offsets" : ""),
                                   time_cell(row.microseconds),
                                   fmt::format("{:.0f}", row.gigabytes_per_second()),
                                   time_cell(row.bounds.cublas),
                                   speedup ? fmt::format("{:.2f}", *speedup) : "-",
                                   time_cell(row.bounds.floor.plain.microseconds),
                                   time_cell(dependent_microseconds(row.bounds.floor)),
                                   fmt::format("{:.2f}", row.floor_ratio()),
                                   fmt::format("{:.1e}", row.error),
                                   fmt::to_string(row.partitions),
                                   describe(row.schedule) + (sweep && row.is_default ? "  <- default" : "")};
    if (epilogue) cells.insert(cells.begin() + 5, describe_epilogue(spec));
    if (!sweep) cells.insert(cells.begin(), layer_label(row.request));
    table.add_row(std::move(cells));
  }
  table.print();
  if (any_gates(rows)) {
    fmt::print(
        "N: rows of the weights, of gates twice the channels of their output; cuBLAS multiplies N x K\n");
  }
  print_failures(rows);
}

}  // namespace lutsmith::cli
