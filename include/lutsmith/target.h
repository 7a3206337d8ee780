#pragma once

#include <span>
#include <string_view>

#include "lutsmith/error.h"
#include "lutsmith/export.h"

namespace lutsmith {

/// What work costs on a target, for the order of candidates and the cut of the work. Microseconds where no
/// unit is given; cycles are issue slots of one warp. `lutsmith tune --fit` fits them to tuned choices
/// (docs/tuning.md says on which GPUs that was done); a target that was not measured has these.
struct MeasuredCosts {
  double cycles_per_microsecond = 1800;
  double launch = 0;                     ///< what every launch takes; no order depends on it
  double unit = 108;                     ///< cycles of a unit of weights,
  double record = 57;                    ///< of each of its records,
  double octet = 24;                     ///< of each record and eight tokens,
  double slice = 0;                      ///< of each record and slice of the codes but the first,
  double register_slice = 0;             ///< the same, where slices are loaded into registers one by one,
  double ring = 2.5;                     ///< of each record that goes through a ring,
  double activations = 42;               ///< and of eight tokens' activations, where they are loaded again
  double hiding = 9;                     ///< warps that a multiprocessor lacks to be busy all the time
  double ring_stage = 0.007;             ///< part by which each stage of a ring above two slows it
  double step = 0.03;                    ///< of every step of a block
  double segment = 0;                    ///< of every tile of a block
  double warp = 0;                       ///< of every warp of a multiprocessor, to start and to end it
  double partial = 0;                    ///< of every element of the tile and warp, on its way to the sum
  double reduction_per_element = 0.005;  ///< sums of a block's warps to one, per element of the tile and warp
  double fix_up = 2.4;                   ///< partial sums of a cut tile: their way to L2 and back,
  double fix_up_per_element = 0.0084;    ///< and per element of the tile
  /// Records (16 rows x 128 k) that a multiprocessor multiplies in the time of `fix_up`, by all its warps.
  int fix_up_records = 120;

  /// Calls `visit(name, value)` for everything that can be fitted: all but `fix_up_records`, which decides
  /// how launches are cut.
  template <class Self, class Visit>
  static constexpr void visit_fields(Self& self, Visit&& visit) {
    visit(std::string_view("cycles_per_microsecond"), self.cycles_per_microsecond);
    visit(std::string_view("launch"), self.launch);
    visit(std::string_view("unit"), self.unit);
    visit(std::string_view("record"), self.record);
    visit(std::string_view("octet"), self.octet);
    visit(std::string_view("slice"), self.slice);
    visit(std::string_view("register_slice"), self.register_slice);
    visit(std::string_view("ring"), self.ring);
    visit(std::string_view("activations"), self.activations);
    visit(std::string_view("hiding"), self.hiding);
    visit(std::string_view("ring_stage"), self.ring_stage);
    visit(std::string_view("step"), self.step);
    visit(std::string_view("segment"), self.segment);
    visit(std::string_view("warp"), self.warp);
    visit(std::string_view("partial"), self.partial);
    visit(std::string_view("reduction_per_element"), self.reduction_per_element);
    visit(std::string_view("fix_up"), self.fix_up);
    visit(std::string_view("fix_up_per_element"), self.fix_up_per_element);
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
