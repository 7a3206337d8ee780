#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "choices/document.h"
#include "cli/output/output.h"
#include "lutsmith/error.h"

namespace lutsmith::cli {

/// A kernel at one number of tokens, as `lutsmith bench` measured it.
struct BenchPoint {
  KernelSpec spec;
  std::optional<double> microseconds = {};  ///< nothing: it failed
  std::optional<double> cublas_microseconds = {};
  std::optional<double> floor_microseconds = {};  ///< of the floor that the schedule can reach
  std::string schedule = {};                      ///< in words
  int partitions = 0;
  bool standard = true;      ///< the schedule and partitions that a plain request gets
  std::string failure = {};  ///< why there is no time

  /// How many times faster than cuBLAS; nothing where one of the two has no time.
  std::optional<double> speedup() const;
};

/// A layer of one GPU's share of a model. Shapes that were given by --n and --k are of a model without a
/// name.
struct BenchLayer {
  std::string model = {};
  int tp = 1;
  std::string name = {};
  WeightFormat format = {};
  std::string epilogue = {};  ///< as describe_epilogue says

  friend bool operator==(const BenchLayer&, const BenchLayer&) = default;
};

/// A file, and what it says of how it was measured; what it does not say is empty.
struct BenchRun {
  std::string file;
  std::string measured = {};  ///< "2026-11-26T21:30:00Z"
  std::string library = {};   ///< lutsmith's version
  std::string driver = {};
  std::string cublas = {};
  std::size_t rows = 0;
};

/// What `lutsmith bench --json` printed, of one model of GPU.
struct BenchDocuments {
  choices::Gpu gpu;
  std::vector<BenchRun> runs = {};
  std::map<std::string, BenchPoint> points = {};  ///< by the spec's description
  std::vector<BenchLayer> layers = {};            ///< each once, in the order of the rows
};

/// A file whose JSON is that of `lutsmith bench`: an object with rows.
struct BenchFile {
  std::string path;
  Json json;
};

/// Those of the files that are of `lutsmith bench`: all or none, else invalid_argument. A file that is
/// neither is the error of read_choices where others are of bench; alone it is not of bench.
Result<std::vector<BenchFile>> find_bench_files(const std::vector<std::string>& paths);

/// Reads all rows. Of two files' rows for one spec the later file's counts, be it a failure; of several in
/// one file, as a sweep has them, the default's. Errors: corrupt_data for what no version of bench writes;
/// invalid_argument where files are of different GPUs, and where nothing says which of several schedules is
/// meant.
Result<BenchDocuments> read_bench_documents(const std::vector<BenchFile>& files);

}  // namespace lutsmith::cli
