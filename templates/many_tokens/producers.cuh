#pragma once

#include "templates/many_tokens/geometry.cuh"
#include "templates/primitives/dependent_launch.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/tensor_copy.cuh"

// The two threads that bring X and the weights to shared memory, as far ahead as there are stages.

namespace lutsmith::device {

template <class Config>
class WeightProducer {
 public:
  using G = ManyTokensGeometry<Config>;

  __device__ __forceinline__ WeightProducer(unsigned char* shared, const StageBarriers<Config>& barriers,
                                            const LaunchArguments& launch)
      : stages_(shared + shared_layout_of<Config>().weights_offset()),
        barriers_(barriers),
        weights_(launch.weights),
        at_(launch) {
    find_row_tile();
  }

  /// Brings the first unit of each group along K: weights depend on nothing that a launch writes.
  __device__ __forceinline__ void start() {
#pragma unroll 1
    for (; stage_ < Config::kKGroups && at_.units_left > 0; ++stage_) copy();
  }

  /// All units after those.
  __device__ __forceinline__ void run() {
    unsigned int parity = 1;  // a stage that was never used is empty
#pragma unroll 1
    while (at_.units_left > 0) {
      if (stage_ == Config::kWeightStages) {
        stage_ = 0;
        parity ^= 1u;
      }
      wait_barrier(barriers_.weights_empty + stage_, parity);
      copy();
      ++stage_;
    }
  }

 private:
  static constexpr int kPanelBytes = packed_layout_of<Config>().panel_bytes();
  static constexpr int kStagedBytes = shared_layout_of<Config>().staged_panel_bytes();

  /// The address changes by a constant from unit to unit: a division for each copy would make weights the
  /// wall.
  __device__ __forceinline__ void find_row_tile() {
    first_panel_ = at_.place().row_tile * G::kPanels;
    unit_ = weights_ + packed_layout_of<Config>().record_offset(layout::kRecordsPerPanel * first_panel_,
                                                                panel_of_unit<Config>(at_.unit));
  }

  /// Panels behind the last one of the matrix are the last one again: their rows are not written.
  __device__ __forceinline__ int panels_to(int panel) const {
    return G::kWholePanels ? panel : min(panel, G::kRowPanels - 1 - first_panel_);
  }

  __device__ __forceinline__ void copy() {
    Mbarrier* barrier = barriers_.weights_full + stage_;
    unsigned char* to = stages_ + stage_ * shared_layout_of<Config>().weight_stage_bytes();
    arrive_expecting(barrier, shared_layout_of<Config>().weight_stage_bytes());
    // Weights behind the last panel along K are those of the last one again, times zeros of X.
    const bool behind = !G::kWholeUnits && panel_of_unit<Config>(at_.unit) == G::kColumnPanels;
    const unsigned char* unit = behind ? unit_ - kPanelBytes : unit_;
#pragma unroll
    for (int panel = 0; panel < G::kPanels; ++panel) {
      const int from = panels_to(panel);
      copy_bulk(to + panel * kStagedBytes, unit + from * packed_layout_of<Config>().row_panel_bytes(),
                kPanelBytes, barrier);
      if constexpr (shared_layout_of<Config>().plane()) {
        constexpr PackedLayout kLayout = packed_layout_of<Config>();
        const long long scales =
            kLayout.plane_group_offset(layout::kRecordsPerPanel * (first_panel_ + from),
                                       kLayout.plane_group(panel_of_unit<Config>(at_.unit) - behind));
        copy_bulk(to + panel * kStagedBytes + kPanelBytes, weights_ + scales,
                  shared_layout_of<Config>().plane_bytes(), barrier);
      }
    }
    unit_ += G::kBlocks * kPanelBytes;
    if (at_.advance() && at_.units_left > 0) find_row_tile();
  }

  unsigned char* stages_;
  StageBarriers<Config> barriers_;
  const unsigned char* weights_;
  const unsigned char* unit_;  ///< its first panel
  TileWalk<Config> at_;
  int first_panel_;
  int stage_ = 0;
};

template <class Config>
class ActivationProducer {
 public:
  using G = ManyTokensGeometry<Config>;

  static __device__ __forceinline__ void run(unsigned char* shared, const StageBarriers<Config>& barriers,
                                             const TensorMap& map, const LaunchArguments& launch) {
    unsigned char* stages = shared + shared_layout_of<Config>().activations_offset();
    TileWalk<Config> at(launch);
    int first_token = at.place().token_tile * Config::kTileTokens;
    int stage = 0;
    unsigned int parity = 1;  // a stage that was never used is empty
#pragma unroll 1
    while (at.units_left > 0) {
#pragma unroll
      for (int part = 0; part < many_tokens::kStagesPerUnit; ++part) {
        wait_barrier(barriers.activations_empty + stage, parity);
        Mbarrier* barrier = barriers.activations_full + stage;
        arrive_expecting(barrier, shared_layout_of<Config>().activation_stage_bytes());
        copy_tensor(
            stages + stage * shared_layout_of<Config>().activation_stage_bytes(), map,
            panel_of_unit<Config>(at.unit) * layout::kRecordColumns + part * many_tokens::kStageColumns,
            first_token, barrier);
        if (++stage == Config::kActivationStages) {
          stage = 0;
          parity ^= 1u;
        }
      }
      if (at.advance() && at.units_left > 0) first_token = at.place().token_tile * Config::kTileTokens;
    }
  }
};

}  // namespace lutsmith::device
