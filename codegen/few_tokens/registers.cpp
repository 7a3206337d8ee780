#include <algorithm>

#include "codegen/few_tokens/few_tokens.h"
#include "codegen/row_tables.h"
#include "templates/abi/packed_layout.h"

// docs/registers.md says what the estimate is made of and how it was checked.

namespace lutsmith {
namespace {

using namespace few_tokens;

constexpr int kRegistersPerMultiprocessor = 65536;
// What the kernel keeps besides fragments: addresses, cursors, look-ups under way. Read off ptxas.
constexpr int kOtherRegisters = 38;

/// Whether units find their scales there.
bool scales_in_plane(const WeightFormat& format) {
  const PackedLayout weights = packed_layout(format);
  return !weights.scales_in_record() && !weights.scales_of_sums();
}

/// What a tile of several steps needs on top. From the third step on its activations do not stay in registers
/// but are loaded two steps ahead. Read off kernels at the edge of spilling: docs/registers.md.
int registers_for_steps(const KernelSpec& spec, const FewTokensSchedule& schedule, int columns) {
  const int steps = (columns + schedule.warps - 1) / schedule.warps;
  const int tile = records(schedule) * token_octets(schedule);
  const bool ring = schedule.weights != WeightPath::registers;
  const int groups = std::max(1, packed_layout(spec.format).groups_per_record());
  // The products of the next group are begun while those of the last are scaled; in the smallest tile, where
  // a group is over soonest, of the next two. Two steps leave room for that but in the largest tile, and so
  // does a stream in registers but with the shortest groups. Four octets of tokens leave none.
  const int ahead = tile == 1 && !ring ? 2 : 1;
  const bool overlaps =
      token_octets(schedule) == 4 || ((steps > 2 || (steps == 2 && tile == 4)) && (ring || groups == 4));
  const int overlapping = overlaps ? (groups - 1) * tile * 4 * ahead : 0;
  // Few tokens do without the rest where every step is whole.
  const bool ragged = columns % schedule.warps != 0;
  if (steps <= 2 || (token_octets(schedule) == 1 && !ragged)) return overlapping;

  // Addresses. A ring has its own besides, which ptxas keeps for some targets only where scales stand in a
  // plane.
  const bool keeps_addresses = ring && spec.target.traits().keeps_ring_addresses;
  const bool plane = scales_in_plane(spec.format);
  const int loading = (!ring ? 2 : keeps_addresses || plane ? 5 : 0) * token_octets(schedule);
  int joining = 0;  // codes that wait for their other slices, or for the group before
  if (spec.format.bits == 3 && keeps_addresses) joining = 4 * records(schedule);
  if (spec.format.bits == 4 && groups > 1) joining = 4 * records(schedule);
  return overlapping + loading + joining;
}

}  // namespace

int FewTokens::estimated_registers(const KernelSpec& spec, const FewTokensSchedule& schedule) {
  const int columns = static_cast<int>(packed_layout(spec.format).column_panels());
  const int steps = (columns + schedule.warps - 1) / schedule.warps;
  const PackedLayout weights = packed_layout(spec.format);
  const int groups = weights.scales_of_sums() ? 0 : std::max(1, weights.groups_per_record());
  const int words = spec.format.offsets ? 2 * groups : groups;  // of scales one a group, and of offsets
  const int unit = records(schedule) * (2 * spec.format.bits + words);
  const int units = schedule.weights == WeightPath::registers ? schedule.stages : 1;
  // Of one token a lane keeps the k of one mma, and whether each mma is that one.
  const int activations = schedule.tile_tokens == 1 ? 2 * (steps <= 4 ? steps : 2) + 4
                                                    : token_octets(schedule) * 16 * std::min(2, steps);
  const int sums = (records(schedule) * 2 + (spec.format.offsets ? 1 : 0)) * token_octets(schedule) * 4;
  // Joining slices and scaling keep more values alive at once.
  const int joining = spec.format.bits < 4 ? 4 : 0;
  const int scaling = groups > 1 ? 2 * groups * records(schedule) : 0;
  // Where the second panel lies, and codes of more records on their way. Read off kernels at the edge.
  const int second_panel = schedule.tile_rows == kWideTileRows ? 12 : 0;
  const int tables = records(schedule) * row_table_registers(spec.format);
  return unit * units + activations + sums + joining + scaling + second_panel + tables +
         registers_for_steps(spec, schedule, columns) + kOtherRegisters;
}

int FewTokens::register_limit(const FewTokensSchedule& schedule) {
  // Each of the four schedulers has a quarter of the registers, shared by its warps in units of 8 a thread.
  constexpr int kSchedulers = 4;
  const int warps = (schedule.warps + kSchedulers - 1) / kSchedulers * schedule.blocks_per_multiprocessor;
  return std::min(255, kRegistersPerMultiprocessor / kSchedulers / layout::kLanes / warps / 8 * 8);
}

int few_tokens::wanted_registers(const KernelSpec& spec, const FewTokensSchedule& schedule) {
  const int columns = static_cast<int>(packed_layout(spec.format).column_panels());
  // Read off 450 kernels for sm_90a: right to 8 registers in most.
  const int ahead = columns > schedule.warps ? 16 : 6;
  return FewTokens::estimated_registers(spec, schedule) +
         ahead * (schedule.weights == WeightPath::registers ? records(schedule) : 1);
}

int few_tokens::resident_blocks(const KernelSpec& spec, const FewTokensSchedule& schedule) {
  const TargetTraits& traits = spec.target.traits();
  const int registers = std::min(wanted_registers(spec, schedule), FewTokens::register_limit(schedule));
  constexpr int kSchedulers = 4;
  const int warps = kRegistersPerMultiprocessor / ((registers + 7) / 8 * 8 * layout::kLanes);
  const int by_registers = warps / kSchedulers * kSchedulers / schedule.warps;
  // A block's shared memory comes in units of 128 bytes, with 1 KiB of its own on top.
  const int shared = (shared_bytes(spec, schedule) + 127) / 128 * 128 + 1024;
  const int by_shared = traits.shared_bytes_per_multiprocessor / shared;
  const int by_threads = traits.threads_per_multiprocessor / (schedule.warps * layout::kLanes);
  return std::max(1, std::min({by_registers, by_shared, by_threads}));
}

}  // namespace lutsmith
