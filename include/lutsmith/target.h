#pragma once

#include <span>
#include <string_view>

#include "lutsmith/error.h"
#include "lutsmith/export.h"

namespace lutsmith {

/// What work costs on a target, for the order of candidates and the cut of the work. In microseconds where no
/// unit is given. Measured on an H200; a target that was measured itself has numbers of its own.
struct MeasuredCosts {
  double cycles_per_microsecond = 1800;
  double step = 0.03;                    ///< of every step of a block
  double reduction_per_element = 0.005;  ///< sums of a block's warps to one, per element of the tile and warp
  double fix_up = 2.4;                   ///< partial sums of a cut tile: their way to L2 and back,
  double fix_up_per_element = 0.0084;    ///< and per element of the tile
  /// Records (16 rows x 128 k) that a multiprocessor multiplies in the time of `fix_up`, by all its warps.
  int fix_up_records = 120;
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
