#include "runtime/ptxas_log.h"

#include <llvm/ADT/SmallVector.h>
#include <llvm/ADT/StringRef.h>

#include <algorithm>

namespace lutsmith {
namespace {

/// The number right before `phrase`, as in "16 bytes spill stores"; nothing where it does not occur.
std::optional<int> number_before(llvm::StringRef text, llvm::StringRef phrase) {
  const std::size_t at = text.find(phrase);
  if (at == llvm::StringRef::npos) return std::nullopt;
  const llvm::StringRef before = text.substr(0, at).rtrim();
  const llvm::StringRef digits = before.substr(before.find_last_not_of("0123456789") + 1);
  int value = 0;
  if (digits.getAsInteger(10, value)) return std::nullopt;
  return value;
}

}  // namespace

// The lines of interest:
//   ptxas         .     0 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
//   ptxas info    : Used 14 registers, used 1 barriers, 512 bytes smem, 372 bytes cmem[0]
std::optional<PtxasFacts> parse_ptxas_log(std::string_view log) {
  std::optional<PtxasFacts> facts;
  int spills = 0;
  llvm::StringRef rest(log);
  while (!rest.empty()) {
    const auto [line, after] = rest.split('\n');
    rest = after;
    // Arrays that are indexed by what is no constant make a stack frame without spills, and cost the same.
    const int spilled = number_before(line, "bytes spill stores").value_or(0) +
                        number_before(line, "bytes spill loads").value_or(0);
    spills += std::max(spilled, number_before(line, "bytes stack frame").value_or(0));
    const std::optional<int> registers = number_before(line, "registers");
    if (!registers || !line.contains("Used ")) continue;
    facts = PtxasFacts{.registers = *registers,
                       .static_shared_bytes = number_before(line, "bytes smem").value_or(0),
                       .spill_bytes = 0};
  }
  if (facts) facts->spill_bytes = spills;
  return facts;
}

}  // namespace lutsmith
