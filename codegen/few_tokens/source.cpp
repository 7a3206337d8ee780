#include <fmt/format.h>

#include "codegen/few_tokens/few_tokens.h"
#include "codegen/schedule_constants.h"

namespace lutsmith {

std::string FewTokens::name_part(const FewTokensSchedule& schedule) {
  return fmt::format("t{}", schedule.tile_tokens);
}

void FewTokens::set_schedule(KernelTemplate& text, const KernelSpec& /*spec*/,
                             const FewTokensSchedule& schedule) {
  set_constants(text, schedule);
}

}  // namespace lutsmith
