#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/fields.h"

namespace lutsmith {

/// The weight stream: how packed weights come from global memory to the warp that uses them.
enum class WeightPath {
  registers,   ///< 16-byte loads into registers, ahead of use
  async_copy,  ///< per-warp ring in shared memory filled by cp.async (any target)
  bulk_copy,   ///< per-warp ring filled by bulk copies with mbarrier completion (sm_90 and later)
};

LUTSMITH_API std::string_view to_string(WeightPath path);
LUTSMITH_API Result<WeightPath> parse_weight_path(std::string_view name);

/// How a kernel of the family for few tokens (mma.sync) does its work.
///
/// A thread block owns a tile of `tile_rows` output channels by `tile_tokens` tokens; its warps
/// stand side by side along K, each taking one unit of (tile_rows x 128) weights per step.
struct FewTokensSchedule {
  static constexpr std::string_view kFamily = "few_tokens";

  int tile_rows = 32;
  int tile_tokens = 8;
  int warps = 8;
  WeightPath weights = WeightPath::registers;
  int stages = 2;                     ///< units a warp holds, under way or in use
  int blocks_per_multiprocessor = 1;  ///< resident blocks that the register budget is cut for
  bool dependent_launch = false;      ///< programmatic dependent launch

  friend bool operator==(const FewTokensSchedule&, const FewTokensSchedule&) = default;

  template <class Self, class Visit>
  static constexpr void visit_fields(Self& self, Visit&& visit) {
    visit(FieldInfo{"tile_rows", "Output channels of a tile", "16, 32 or 64", "rows {}"}, self.tile_rows);
    visit(FieldInfo{"tile_tokens", "Tokens of a tile", "1, 8, 16 or 32", ", tokens {}"}, self.tile_tokens);
    visit(FieldInfo{"warps", "Warps of a thread block", "1 to 16", ", warps {}"}, self.warps);
    visit(FieldInfo{"weights", "How weights reach the warp",
                    "registers, async_copy or bulk_copy (sm_90 and later)", ", {}"},
          self.weights);
    visit(
        FieldInfo{"stages", "Units of weights a warp holds", "2 to 3 in registers, 2 to 8 in a ring", " x{}"},
        self.stages);
    visit(FieldInfo{"blocks_per_multiprocessor", "Resident blocks per multiprocessor", "1 to 4",
                    ", {} block{s}/SM", "blocks-per-sm"},
          self.blocks_per_multiprocessor);
    visit(FieldInfo{"dependent_launch", "Programmatic dependent launch", "on (sm_90 and later) or off",
                    ", dependent launch"},
          self.dependent_launch);
  }
};

/// How a kernel of the family for many tokens (wgmma, Hopper) does its work.
///
/// A thread block owns a tile of `tile_rows` output channels by `tile_tokens` tokens and goes along K in
/// units of 128. One of its warpgroups brings X and weights to shared memory; of the others each looks up the
/// weights of 64 rows and multiplies. With two groups along K, every 64 rows have two, which take the units
/// in turn; with two blocks in a cluster, both have the same tile, and each takes every second unit.
struct ManyTokensSchedule {
  static constexpr std::string_view kFamily = "many_tokens";

  int tile_rows = 128;
  int tile_tokens = 64;
  int k_groups = 2;
  int cluster_blocks = 1;
  int commit_steps = 4;       ///< products of 16 k that are started together
  int activation_stages = 8;  ///< of 64 k
  int weight_stages = 8;      ///< of 128 k
  bool dependent_launch = true;

  friend bool operator==(const ManyTokensSchedule&, const ManyTokensSchedule&) = default;

  template <class Self, class Visit>
  static constexpr void visit_fields(Self& self, Visit&& visit) {
    visit(FieldInfo{"tile_rows", "Output channels of a tile", "128, 192 or 256", "rows {}"}, self.tile_rows);
    visit(FieldInfo{"tile_tokens", "Tokens of a tile", "32, 48, 64, 96, 128, 160, 192 or 256", ", tokens {}"},
          self.tile_tokens);
    visit(FieldInfo{"k_groups", "Warpgroups that share the units of the same rows", "1 or 2",
                    ", {} group{s} along K"},
          self.k_groups);
    visit(FieldInfo{"cluster_blocks", "Blocks that share the units of a tile, as a cluster", "1 or 2",
                    ", {} block{s} a cluster"},
          self.cluster_blocks);
    visit(FieldInfo{"commit_steps", "Products of 16 k that are started together", "1 or 4",
                    ", {} step{s} at a time"},
          self.commit_steps);
    visit(FieldInfo{"activation_stages", "Stages of 64 k of X", "a multiple of 2 * k_groups, up to 16",
                    ", X x{}"},
          self.activation_stages);
    visit(FieldInfo{"weight_stages", "Stages of 128 k of weights", "a multiple of k_groups, up to 16",
                    ", weights x{}"},
          self.weight_stages);
    visit(FieldInfo{"dependent_launch", "Programmatic dependent launch", "on or off", ", dependent launch"},
          self.dependent_launch);
  }
};

/// How a kernel of the family for many tokens on any target (mma.sync, X in stages) does its work.
///
/// A thread block owns a tile of `tile_rows` output channels by `tile_tokens` tokens and goes along K in
/// units of 128. Each warp looks up the weights of `warp_rows` of the rows and multiplies them by all of the
/// tokens, which pass through stages in shared memory. With two groups along K, there are as many warps
/// again, which take the units in turn.
struct MultistageSchedule {
  static constexpr std::string_view kFamily = "multistage";

  int tile_rows = 256;
  int tile_tokens = 64;
  int warp_rows = 32;
  int k_groups = 1;
  int stage_columns = 64;     ///< k of X in a stage
  int activation_stages = 4;  ///< of each group along K
  WeightPath weights = WeightPath::registers;
  int weight_stages = 2;          ///< units a warp holds, under way or in use
  bool scale_sums = false;        ///< scales are applied to fp32 sums, not to weights as 16-bit floats
  bool dependent_launch = false;  ///< programmatic dependent launch

  friend bool operator==(const MultistageSchedule&, const MultistageSchedule&) = default;

  template <class Self, class Visit>
  static constexpr void visit_fields(Self& self, Visit&& visit) {
    visit(FieldInfo{"tile_rows", "Output channels of a tile", "128 or 256", "rows {}"}, self.tile_rows);
    visit(FieldInfo{"tile_tokens", "Tokens of a tile", "32, 48, 64, 96 or 128", ", tokens {}"},
          self.tile_tokens);
    visit(FieldInfo{"warp_rows", "Output channels of a warp", "16 or 32", ", {} rows a warp"},
          self.warp_rows);
    visit(FieldInfo{"k_groups", "Warps that share the units of the same rows", "1 or 2",
                    ", {} group{s} along K"},
          self.k_groups);
    visit(FieldInfo{"stage_columns", "k of X in a stage", "64 or 128", ", X {} k"}, self.stage_columns);
    visit(FieldInfo{"activation_stages", "Stages of X", "2 to 8", " x{}"}, self.activation_stages);
    visit(FieldInfo{"weights", "How weights reach the warp", "registers or bulk_copy (sm_90 and later)",
                    ", {}"},
          self.weights);
    visit(FieldInfo{"weight_stages", "Units of weights a warp holds", "2 to 3 in registers, 2 to 8 in a ring",
                    " x{}"},
          self.weight_stages);
    visit(FieldInfo{"scale_sums", "Scales on fp32 sums instead of on weights", "on or off", ", scaled sums"},
          self.scale_sums);
    visit(FieldInfo{"dependent_launch", "Programmatic dependent launch", "on (sm_90 and later) or off",
                    ", dependent launch"},
          self.dependent_launch);
  }
};

/// How a kernel does its work: the schedule of one of the families of kernels, which tells the family as
/// well. The packed weights are the same for all.
using Schedule = std::variant<FewTokensSchedule, ManyTokensSchedule, MultistageSchedule>;

/// One line, such as "rows 32, tokens 8, warps 8, registers x2, 2 blocks/SM, dependent launch".
LUTSMITH_API std::string describe(const Schedule& schedule);

}  // namespace lutsmith
