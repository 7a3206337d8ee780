#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/choice.h"
#include "lutsmith/error.h"
#include "lutsmith/kernel_spec.h"

// What tuning found on one model of GPU, as a JSON document:
//
//   {"schema": 1,
//    "gpu": {"name": "NVIDIA H100 80GB HBM3", "multiprocessors": 132, "target": "sm_90a"},
//    "entries": [
//     {"spec": {"bits": 4, "group": 128, ...},          fields as in a kernel's manifest, but for the target
//      "choice": {"schedule": 2, "partitions": 264, "microseconds": 4.801},
//      "default": {"schedule": 0, "partitions": 132, "microseconds": 5.022},
//      "noise": 0.004,
//      "floor_microseconds": 3.2, "floor_dependent_microseconds": 3.0, "fp16_microseconds": 8.9,
//      "schedules": [{"tile_rows": 32, ...}, ...],      what `schedule` counts into
//      "measurements": [[0, 132, 5.022, 0.004, 25], ...],
//      "failures": [{"schedule": 5, "reason": "..."}],
//      "conditions": {"measured": "2026-11-26T21:30:00Z", "quality": "good", ...}},
//     ...]}
//
// An entry a line, so that two documents can be compared by eye.
//
// A field of a spec or schedule that is missing was added since: it has its initial value. An entry with one
// that is not known, or of a family of kernels that is not, is as good as none, and is kept for whoever can
// read it. Other members that are not known are passed over, and lost when the document is written again:
// what they say is of no concern to the choice, else the schema would be another.

namespace lutsmith::choices {

inline constexpr int kSchema = 1;

/// A model of GPU: all of one name and size are tuned alike.
struct Gpu {
  std::string name;  ///< as the driver tells it: "NVIDIA H100 80GB HBM3"
  int multiprocessors = 0;
  Target target = {};

  friend bool operator==(const Gpu&, const Gpu&) = default;
};

/// "NVIDIA H100 80GB HBM3, 132 multiprocessors".
std::string describe(const Gpu& gpu);

/// A time of a launch; `schedule` counts into the entry's schedules.
struct Timed {
  std::size_t schedule = 0;
  int partitions = 0;
  double microseconds = 0;
};

struct Measurement {
  std::size_t schedule = 0;
  int partitions = 0;
  double microseconds = 0;  ///< median
  double spread = 0;        ///< between the quartiles, as a part of the median
  int rounds = 0;
};

/// A schedule that was to be measured and could not be.
struct Failure {
  std::size_t schedule = 0;
  std::string reason;
};

/// Whether times can be trusted.
enum class Quality {
  good,
  noisy,      ///< repeats of one kernel differed by more than they should
  throttled,  ///< the GPU lowered its clocks
  busy,       ///< another process used the GPU
};
std::string_view to_string(Quality quality);

/// What the measuring met. Numbers are those of NVML, nothing where it is not installed.
struct Conditions {
  std::string measured = {};  ///< when: "2026-11-26T21:30:00Z"
  Quality quality = Quality::good;
  std::string driver = {};    ///< CUDA version: "13.0"
  std::string compiler = {};  ///< "NVRTC 13.0.88"
  std::string library = {};   ///< lutsmith's version
  std::optional<double> clock_mhz = {};
  std::optional<double> memory_clock_mhz = {};
  std::optional<double> power_watts = {};
  std::optional<double> temperature_celsius = {};
  std::string throttled_by = {};  ///< reasons, separated by commas
  /// The GPU was at its power limit, which sets its clocks then. Its times are as good as any, but another
  /// limit gives others. Nothing where NVML does not tell, as in documents of before it was recorded.
  std::optional<bool> power_capped = {};
  std::optional<int> other_processes = {};
};

/// How good the times are, and whether the GPU was at its power limit: "good", "noisy, power-capped".
std::string describe_quality(const Conditions& conditions);

/// One spec's choice, and what it rests on.
struct Entry {
  KernelSpec spec;  ///< m is that of its token bucket
  std::vector<Schedule> schedules;
  Timed choice;
  Timed standard;    ///< what the cost model chose, measured beside it; its partitions are those used
  double noise = 0;  ///< what repeats of it differed by, as a part of its time; a winner beat it by more
  double floor_microseconds = 0;
  std::optional<double> floor_dependent_microseconds;
  std::optional<double> fp16_microseconds;  ///< of cuBLAS
  std::vector<Measurement> measurements;    ///< the best of each schedule and number of partitions, by time
  std::vector<Failure> failures;
  Conditions conditions;

  /// `choice` as it is asked for.
  Choice chosen() const { return {schedules[choice.schedule], choice.partitions}; }
};

/// Whether `other`, for the same spec, is to stand in the place of `mine`: the one that was measured later,
/// then the faster.
bool supersedes(const Entry& other, const Entry& mine);

/// What a document calls a spec: the description of its token bucket.
std::string name_in_document(KernelSpec spec);

/// Tuned choices of one model of GPU.
class Document {
 public:
  explicit Document(Gpu gpu) : gpu_(std::move(gpu)) {}

  const Gpu& gpu() const { return gpu_; }
  /// By name_in_document, in its order.
  const std::map<std::string, Entry>& entries() const { return entries_; }
  /// The entry for a spec's token bucket; null: there is none.
  const Entry* find(const KernelSpec& spec) const;
  /// Replaces what is there for the spec.
  void put(Entry entry);
  /// Takes what `other`, of the same GPU, has: of two entries for a spec the one that supersedes the other.
  void merge(const Document& other);
  /// Entries that this version of the library cannot read, such as those of a family of kernels or with a
  /// field that it does not have. They are kept.
  std::size_t unread() const { return unread_.size(); }

 private:
  friend Result<Document> parse_document(std::string_view text);
  friend std::string write_document(const Document& document);

  Gpu gpu_;
  std::map<std::string, Entry> entries_;
  std::vector<std::string> unread_;  ///< their JSON
};

/// Errors: unsupported for another schema; corrupt_data for what is no such document, or cut off.
Result<Document> parse_document(std::string_view text);
std::string write_document(const Document& document);

/// The name of a GPU's document: "nvidia-h100-80gb-hbm3-132.v1.json".
std::string file_name(const Gpu& gpu);

}  // namespace lutsmith::choices
