#pragma once

#include <span>
#include <string_view>

#include "lutsmith/error.h"
#include "lutsmith/export.h"

namespace lutsmith {

/// What work costs on a target, for the order of candidates and the cut of the work. Microseconds where no
/// unit is given; cycles are those of a multiprocessor. codegen/few_tokens/cost_model.cpp tells how they come
/// together, docs/tuning.md on which GPUs they were measured. `lutsmith tune --fit` fits them to tuned
/// choices; a target that was not measured has these.
struct MeasuredCosts {
  double cycles_per_microsecond = 1755;

  // Throughput: cycles that a multiprocessor spends on a unit of weights.
  double record = 28;  ///< for each of its records,
  double ring = 15;    ///< for each record that comes through a ring, by every eight tokens but the first
  double activations = 57;           ///< and for eight tokens' activations, where they are loaded again
  double ragged = 0.17;              ///< part by which a ragged last step slows all,
  double missing_register = 0.0073;  ///< and each that a record lacks of `wanted_registers`

  // Latency: cycles from the start of a step of a block to its end, were it alone.
  double latency = 1060;
  double activations_latency = 49;   ///< for eight tokens' activations, where they are loaded again
  double third_stage_latency = 210;  ///< of a third stage in registers: the copies
  /// Part by which a ragged last step slows all whose weights are loaded again into the registers they were
  /// in: the branch around the products keeps the loads behind it.
  double ragged_refill = 0.43;

  // What stands around the steps.
  double block = 0.0035;       ///< of every block of a launch: they start one after another
  double uneven_launch = 0.4;  ///< where blocks of one launch may meet on a multiprocessor
  double ring_start = 0.34;    ///< barriers of a ring
  double priming = 0.42;       ///< for each microsecond of memory that the first stages take
  double segment = 0.3;        ///< of every tile of a block,
  double reduction = 0.027;    ///< and for every pass of a warp over the sums of all warps
  double fix_up = 5.7;         ///< partial sums of a cut tile: their way to L2 and back
  /// Records (16 rows x 128 k) that a multiprocessor multiplies in the time of `fix_up`, by all its warps.
  int fix_up_records = 120;

  /// Calls `visit(name, value)` for everything that can be fitted: all but the clock, in whose units others
  /// are, and `fix_up_records`, which decides how launches are cut.
  template <class Self, class Visit>
  static constexpr void visit_fields(Self& self, Visit&& visit) {
    visit(std::string_view("record"), self.record);
    visit(std::string_view("ring"), self.ring);
    visit(std::string_view("activations"), self.activations);
    visit(std::string_view("ragged"), self.ragged);
    visit(std::string_view("missing_register"), self.missing_register);
    visit(std::string_view("latency"), self.latency);
    visit(std::string_view("activations_latency"), self.activations_latency);
    visit(std::string_view("third_stage_latency"), self.third_stage_latency);
    visit(std::string_view("ragged_refill"), self.ragged_refill);
    visit(std::string_view("block"), self.block);
    visit(std::string_view("uneven_launch"), self.uneven_launch);
    visit(std::string_view("ring_start"), self.ring_start);
    visit(std::string_view("priming"), self.priming);
    visit(std::string_view("segment"), self.segment);
    visit(std::string_view("reduction"), self.reduction);
    visit(std::string_view("fix_up"), self.fix_up);
  }
};

/// What the generator has to know of a GPU architecture: one row per target, nothing else depends
/// on the target's name.
struct TargetTraits {
  std::string_view name;  ///< as NVRTC spells it, suffix included: "sm_90a"
  int major;              ///< compute capability
  int minor;
  int min_nvrtc;                        ///< oldest NVRTC that knows the target: 1000 * major + 10 * minor
  bool bulk_copy;                       ///< cp.async.bulk with mbarrier completion
  bool dependent_launch;                ///< programmatic dependent launch (griddepcontrol)
  bool warpgroup_products;              ///< wgmma, setmaxnreg and copies by tensor map
  int shared_bytes_per_block;           ///< largest shared memory one block can opt in to
  int shared_bytes_per_multiprocessor;  ///< what the blocks resident together share
  int threads_per_multiprocessor;
  /// ptxas keeps the addresses of a ring in registers, whatever the format (docs/registers.md).
  bool keeps_ring_addresses;
  int multiprocessors;      ///< of the common product; the cost model's guess, never a limit
  double bytes_per_second;  ///< memory bandwidth of that product
  MeasuredCosts costs = {};
};

/// A GPU architecture lutsmith can generate code for. A cheap handle; two are equal when they are
/// the same architecture, suffix included.
class LUTSMITH_API Target {
 public:
  /// "native", the GPU at hand: what a `Service` replaces by it. Names no architecture, so that whatever
  /// makes code without a GPU refuses it; all its traits are 0.
  Target();

  /// From a name such as "sm_90a". The error lists the known names.
  static Result<Target> parse(std::string_view name);

  /// For a GPU's compute capability, such as (9, 0). The error lists the known ones.
  static Result<Target> from_compute_capability(int major, int minor);

  bool is_native() const { return *this == Target(); }

  /// Every known architecture, oldest first.
  static std::span<const TargetTraits> all();

  std::string_view name() const { return traits_->name; }
  const TargetTraits& traits() const { return *traits_; }

  friend bool operator==(const Target&, const Target&) = default;

 private:
  explicit Target(const TargetTraits* traits) : traits_(traits) {}
  const TargetTraits* traits_;
};

}  // namespace lutsmith
