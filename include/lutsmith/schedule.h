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
    visit(FieldInfo{"tile_rows", "Output channels of a tile", "16 or 32", "rows {}"}, self.tile_rows);
    visit(FieldInfo{"tile_tokens", "Tokens of a tile", "1, 8 or 16", ", tokens {}"}, self.tile_tokens);
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

/// How a kernel does its work: the schedule of one of the families of kernels, which tells the family as
/// well. The packed weights are the same for all.
using Schedule = std::variant<FewTokensSchedule>;

/// One line, such as "rows 32, tokens 8, warps 8, registers x2, 2 blocks/SM, dependent launch".
LUTSMITH_API std::string describe(const Schedule& schedule);

}  // namespace lutsmith
