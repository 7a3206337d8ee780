#pragma once

#include "templates/look_up/contract.cuh"
#include "templates/many_tokens/epilogue.cuh"
#include "templates/many_tokens/fragments.cuh"
#include "templates/many_tokens/producers.cuh"
#include "templates/primitives/warpgroup_product.cuh"

// Y = X * W^T for many tokens on Hopper: the problem transposed, weights are the A operand in registers, 64
// rows a warpgroup, and tokens its n, from shared memory. One warpgroup brings X and weights, the others look
// weights up and multiply. docs/kernels.md has the loop as a picture in time.

namespace lutsmith::device {

template <class Config, class Engine>
class ManyTokens {
  static_assert(LookUpContract<Engine, OneRecord<Config>>::kKept);

 public:
  using G = ManyTokensGeometry<Config>;
  using Parameter = MappedParameter<typename Engine::Parameter>;

  static __device__ __forceinline__ void run(const Parameter& parameter, unsigned char* shared) {
    release_dependents<Config::kDependentLaunch>();
    const int warp = uniform_warp_index();
    const StageBarriers<Config> barriers(shared);
    if (warp < kProducerWarps) {
      give_up_registers<kProducerRegisters>();
      if (warp == kWeightWarp) bring_weights(parameter, shared, barriers);
      if (warp == kActivationWarp) bring_activations(parameter, shared, barriers);
    } else {
      Engine::fill(shared, parameter.form, thread_index() - kProducerWarps * layout::kLanes, G::kConsumers);
      meet_at_start();
      claim_registers<kConsumerRegisters>();
      ManyTokens(parameter, shared, barriers, warp).multiply();
    }
  }

 private:
  // Of the first warpgroup. Two of its warps do nothing.
  static constexpr int kActivationWarp = 0;
  static constexpr int kWeightWarp = 1;
  static constexpr int kProducerWarps = 4;
  // Of 65536, in units of 8 a thread.
  static constexpr int kProducerRegisters = G::kWarpgroups <= 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = G::kWarpgroups <= 2 ? 232 : 112;

  using FragmentsOfUnit = Fragments<Config, Engine>;
  using Batch = typename FragmentsOfUnit::Batch;

  // A block often starts late, where another had to end before it, and the whole launch waits for it. So the
  // first weights are asked for beside the look-up's filling, before anybody meets.

  /// The barriers of the stages are there, and the look-up is filled.
  static __device__ __forceinline__ void meet_at_start() {
    named_barrier(6, 2 * layout::kLanes + G::kConsumers);
  }

  static __device__ __forceinline__ void bring_weights(const Parameter& parameter, unsigned char* shared,
                                                       const StageBarriers<Config>& barriers) {
    const bool leads = thread_index() % layout::kLanes == 0;
    WeightProducer<Config> weights(shared, barriers, parameter.form.launch);
    if (leads) {
      barriers.initialize_weights();
      weights.start();
    }
    meet_at_start();
    if (leads) weights.run();
  }

  static __device__ __forceinline__ void bring_activations(const Parameter& parameter, unsigned char* shared,
                                                           const StageBarriers<Config>& barriers) {
    const bool leads = thread_index() % layout::kLanes == 0;
    if (leads) {
      prefetch_tensor_map(parameter.activations);
      barriers.initialize_activations();
    }
    meet_at_start();
    if (!leads) return;
    // For all: whatever the launch before may touch is touched only after X has come.
    wait_for_dependency<Config::kDependentLaunch>();
    ActivationProducer<Config>::run(shared, barriers, parameter.activations, parameter.form.launch);
  }

  __device__ __forceinline__ ManyTokens(const Parameter& parameter, unsigned char* shared,
                                        const StageBarriers<Config>& barriers, int warp)
      : launch_(parameter.form.launch),
        shared_(shared),
        engine_(shared, parameter.form),
        barriers_(barriers),
        lane_(thread_index() % layout::kLanes),
        k_group_((warp / 4 - 1) / G::kRowGroups),
        fragments_(shared + shared_layout_of<Config>().weights_offset(),
                   (warp / 4 - 1) % G::kRowGroups * 4 + warp % 4, lane_),
        operand_(describe_operand(shared + shared_layout_of<Config>().activations_offset())),
        weight_stage_(k_group_),
        activation_unit_(k_group_) {
    // For all segments: the registers of a tile's first batch are made before the tile ahead of it has ended,
    // so an engine with a table for each row would need more than this.
    engine_.begin_segment(0, lane_);
  }

  /// Segment by segment. `next` counts units from the partition's begin; this group has every kKGroups-th.
  __device__ __forceinline__ void multiply() {
    TileWalk<Config> at(launch_);
    const int count = at.units_left;
    int begin = 0;
    int next = k_group_;
    if (next < count) {
      read_codes();
      fragments_.template make<0>(a_[0], engine_);
    }
#pragma unroll 1
    while (at.units_left > 0) {
      const int segment = at.segment();
      // Zeros rather than products that begin the sums anew: those would keep their registers over the
      // epilogue.
#pragma unroll
      for (int i = 0; i < G::kSums; ++i) sums_[i] = 0;
#pragma unroll 1
      for (; next < begin + segment; next += Config::kKGroups) {
        unit<0>(next + Config::kKGroups < count);
      }
      wait_products<0>();
      release_activations();
      ManyTokensEpilogue<Config>(launch_, shared_).finish_segment(at, sums_, segment == G::kColumnPanels);
      begin += segment;
      at.next_segment();
    }
  }

  /// Batch by batch: while the products of one are under way, the registers of the next are made.
  template <int kBatch>
  __device__ __forceinline__ void unit(bool more) {
    constexpr int kFirst = kBatch * Config::kCommitSteps;
    constexpr bool kNewStage = kFirst % G::kStepsPerStage == 0;
    constexpr int kPart = kFirst / G::kStepsPerStage;
    constexpr bool kLast = kBatch == G::kBatches - 1;
    const int stage = activation_unit_ * many_tokens::kStagesPerUnit + kPart;
    if constexpr (kNewStage) wait_barrier(barriers_.activations_full + stage, activation_parity_);
    const unsigned long long operand = operand_ +
                                       (stage * shared_layout_of<Config>().activation_stage_bytes() >> 4) +
                                       2 * (kFirst % G::kStepsPerStage);
    fence_registers();
#pragma unroll
    for (int i = 0; i < Config::kCommitSteps; ++i) {
      multiply_async<Config::kElement>(sums_, a_[kBatch % 2][i], operand + 2 * i, true);
    }
    commit_products();
    const int weight_stage = weight_stage_;
    if (kLast && more) {
      next_weight_stage();
      read_codes();
    }
    wait_products<1>();
    if constexpr (kNewStage) {  // the batch before was the last that used its stage
      release_activations();
      used_stage_ = stage;
    }
    if constexpr (!kLast) {
      fragments_.template make<kFirst + Config::kCommitSteps>(a_[(kBatch + 1) % 2], engine_);
      if constexpr (kBatch == G::kBatches - 2) release_weights(weight_stage);
      unit<kBatch + 1>(more);
    } else {
      if (more) fragments_.template make<0>(a_[0], engine_);
      next_activation_unit();
    }
  }

  __device__ __forceinline__ void read_codes() {
    wait_barrier(barriers_.weights_full + weight_stage_, weight_parity_);
    fragments_.read(weight_stage_);
  }

  /// By every lane: one for all of them would be no faster, and compute-sanitizer does not follow it.
  __device__ __forceinline__ void release_weights(int stage) { arrive(barriers_.weights_empty + stage); }

  __device__ __forceinline__ void release_activations() {
    if (used_stage_ >= 0 && lane_ == 0) arrive(barriers_.activations_empty + used_stage_);
    used_stage_ = -1;
  }

  __device__ __forceinline__ void next_weight_stage() {
    weight_stage_ += Config::kKGroups;
    if (weight_stage_ >= Config::kWeightStages) {
      weight_stage_ -= Config::kWeightStages;
      weight_parity_ ^= 1u;
    }
  }

  __device__ __forceinline__ void next_activation_unit() {
    activation_unit_ += Config::kKGroups;
    if (activation_unit_ >= Config::kActivationStages / many_tokens::kStagesPerUnit) {
      activation_unit_ -= Config::kActivationStages / many_tokens::kStagesPerUnit;
      activation_parity_ ^= 1u;
    }
  }

  const LaunchArguments& launch_;
  unsigned char* shared_;
  Engine engine_;
  StageBarriers<Config> barriers_;
  int lane_;
  int k_group_;
  FragmentsOfUnit fragments_;
  unsigned long long operand_;  ///< X stage 0
  int weight_stage_;
  int activation_unit_;  ///< pair of X stages
  unsigned int weight_parity_ = 0;
  unsigned int activation_parity_ = 0;
  int used_stage_ = -1;  ///< of X: products that read it may be under way
  Batch a_[2];
  float sums_[G::kSums];
};

}  // namespace lutsmith::device
