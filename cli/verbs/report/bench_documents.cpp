#include "cli/verbs/report/bench_documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>
#include <variant>

#include "cli/output/printable.h"
#include "cli/verbs/report/documents.h"
#include "core/field_json.h"
#include "core/result.h"
#include "lutsmith/codegen.h"
#include "runtime/cuda_version.h"

namespace lutsmith::cli {
namespace {

constexpr const char* kRows = "rows";

/// The file's JSON where it has rows.
std::optional<Json> read_rows(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return std::nullopt;
  std::ifstream file(path, std::ios::binary);
  Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains(kRows) || !json[kRows].is_array()) return std::nullopt;
  return json;
}

// Reading. What is missing or of another type is empty.

std::string text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? printable(found->get<std::string>()) : std::string();
}

int count_of(const Json& object, const char* name, int otherwise) {
  constexpr std::uint64_t kMost = 1U << 30U;
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_unsigned()) return otherwise;
  return static_cast<int>(std::min(found->get<std::uint64_t>(), kMost));
}

std::optional<double> time_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  const auto time = found->get<double>();
  return std::isfinite(time) && time > 0 ? std::optional(time) : std::nullopt;
}

std::string driver_version(const Json& json) {
  const int version = count_of(json, "driver", 0);
  return version > 0 ? cuda_version_text(version) : std::string();
}

/// 130100, as cuBLAS counts, is "13.1.0".
std::string cublas_version(const Json& json) {
  const int version = count_of(json, "cublas", 0);
  return version > 0 ? fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100)
                     : std::string();
}

Result<choices::Gpu> read_gpu(const BenchFile& file) {
  const Result<Target> target = Target::parse(text_of(file.json, "target"));
  choices::Gpu gpu{.name = text_of(file.json, "gpu"),
                   .multiprocessors = count_of(file.json, "multiprocessors", 0)};
  if (gpu.name.empty() || gpu.multiprocessors == 0 || !target) {
    return corrupt(fmt::format("{}: it has rows, but names no GPU that is known", file.path));
  }
  gpu.target = *target;
  return gpu;
}

/// What the row says of a schedule: its description, and whether it begins before the kernel ahead of it
/// ends.
void read_schedule_of(const Json& row, BenchPoint& point, bool& dependent) {
  const auto found = row.find("schedule");
  if (found == row.end()) return;
  const Result<Schedule> schedule = read_schedule(*found, FieldRule::any_version);
  point.schedule = schedule ? describe(*schedule) : "of another version";
  dependent = schedule && std::visit([](const auto& own) { return own.dependent_launch; }, *schedule);
}

Result<BenchPoint> read_point(const Json& row, const Target& target) {
  BenchPoint point;
  const auto spec = row.is_object() ? row.find("spec") : row.end();
  if (!row.is_object() || spec == row.end() || !read_fields(*spec, point.spec, FieldRule::any_version)) {
    return corrupt("it has no spec that this version of lutsmith knows");
  }
  if (Result<void> valid = validate(point.spec); !valid) return failure(valid);
  if (point.spec.target != target) return corrupt("it is of another target than the GPU");
  bool dependent = false;
  read_schedule_of(row, point, dependent);
  point.partitions = count_of(row, "partitions", 0);
  if (const auto error = row.find("error"); error != row.end()) {
    point.failure = error->is_object() ? text_of(*error, "message") : std::string();
    if (point.failure.empty()) point.failure = "no reason is given";
    point.standard = !row.contains("schedule") && point.partitions == 0;
    return point;
  }
  point.microseconds = time_of(row, "microseconds");
  if (!point.microseconds) return corrupt("it has neither microseconds nor an error");
  point.cublas_microseconds = time_of(row, "cublas_microseconds");
  point.floor_microseconds = time_of(row, "floor_microseconds");
  if (const auto own = time_of(row, "floor_dependent_microseconds"); own && dependent) {
    point.floor_microseconds = own;
  }
  const auto standard = row.find("default");
  point.standard = standard != row.end() && *standard == true;
  return point;
}

/// The points of one file.
struct FilePoints {
  std::map<std::string, BenchPoint> points = {};
  std::set<std::string> unclear = {};  ///< of several schedules, none of which is the default so far

  /// Beside the default's row no other counts.
  void add(BenchPoint point) {
    const std::string name = describe(point.spec);
    const auto [place, added] = points.try_emplace(name, point);
    if (added) return;
    BenchPoint& known = place->second;
    if (point.standard) {
      unclear.erase(name);
    } else if (known.standard) {
      return;
    } else if (known.schedule != point.schedule || known.partitions != point.partitions) {
      unclear.insert(name);
    }
    known = std::move(point);
  }
};

Result<std::map<std::string, BenchPoint>> read_file(const BenchFile& file, const Target& target,
                                                    std::vector<BenchLayer>& layers) {
  FilePoints read;
  std::size_t number = 0;
  for (const Json& row : file.json[kRows]) {
    ++number;
    Result<BenchPoint> point = read_point(row, target);
    if (!point) {
      return corrupt(fmt::format("{}: row {}: {}", file.path, number, point.error().message));
    }
    const BenchLayer layer{.model = text_of(row, "model"),
                           .tp = count_of(row, "tp", 1),
                           .name = text_of(row, "layer"),
                           .format = point->spec.format,
                           .epilogue = describe_epilogue(point->spec)};
    if (std::ranges::find(layers, layer) == layers.end()) layers.push_back(layer);
    read.add(*std::move(point));
  }
  if (!read.unclear.empty()) {
    return refuse(
        fmt::format(
            "FILE: {} has several schedules or numbers of partitions for {}, none of them the default",
            file.path, *read.unclear.begin()),
        "measure one of each: `lutsmith bench` without --sweep, and with one number for --partitions");
  }
  return std::move(read.points);
}

}  // namespace

std::optional<double> BenchPoint::speedup() const {
  if (!microseconds || !cublas_microseconds) return std::nullopt;
  return *cublas_microseconds / *microseconds;
}

Result<std::vector<BenchFile>> find_bench_files(const std::vector<std::string>& paths) {
  std::vector<BenchFile> files;
  const std::string* other = nullptr;
  for (const std::string& path : paths) {
    if (std::optional<Json> json = read_rows(path)) {
      files.push_back({path, *std::move(json)});
    } else {
      other = &path;
    }
  }
  if (files.empty() || other == nullptr) return files;
  if (auto tuned = read_choices(*other); !tuned) return failure(tuned);
  return refuse(
      fmt::format(
          "FILE: {} has times of `lutsmith bench` and {} has tuned choices; a report shows one of the two",
          files.front().path, *other),
      "call `lutsmith report` once for the files of each kind");
}

Result<BenchDocuments> read_bench_documents(const std::vector<BenchFile>& files) {
  BenchDocuments read;
  for (const BenchFile& file : files) {
    Result<choices::Gpu> gpu = read_gpu(file);
    if (!gpu) return failure(gpu);
    if (read.runs.empty()) read.gpu = *gpu;
    if (*gpu != read.gpu) {
      return refuse(fmt::format("FILE: {} is of {} and {} of {}; a report on times is of one model of GPU",
                                read.runs.front().file, choices::describe(read.gpu), file.path,
                                choices::describe(*gpu)),
                    "call `lutsmith report` once for the files of each GPU");
    }
    Result<std::map<std::string, BenchPoint>> points = read_file(file, gpu->target, read.layers);
    if (!points) return failure(points);
    for (auto& [name, point] : *points) read.points.insert_or_assign(name, std::move(point));
    read.runs.push_back({.file = file.path,
                         .measured = text_of(file.json, "measured"),
                         .library = text_of(file.json, "library"),
                         .driver = driver_version(file.json),
                         .cublas = cublas_version(file.json),
                         .rows = file.json[kRows].size()});
  }
  return read;
}

}  // namespace lutsmith::cli
