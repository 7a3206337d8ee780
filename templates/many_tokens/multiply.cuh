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
    if constexpr (G::kBlocks > 1) {
      if (warp == kExchangeWarp && thread_index() % layout::kLanes == 0) {
        ExchangeBarriers<Config>(shared).initialize();
      }
      arrive_at_cluster();
    }
    const StageBarriers<Config> barriers(shared);
    if (warp < kProducerWarps) {
      give_up_registers<kProducerRegisters>();
      if (warp == kWeightWarp) bring_weights(parameter, shared, barriers);
      if (warp == kActivationWarp) bring_activations(parameter, shared, barriers);
    } else {
      fill_engine(shared, parameter.form);
      meet_at_start();
      if constexpr (G::kBlocks > 1) wait_for_cluster();  // the other block has its barriers
      claim_registers<kConsumerRegisters>();
      ManyTokens(parameter, shared, barriers, warp).multiply();
    }
  }

 private:
  // Of the first warpgroup. Two of its warps do nothing else.
  static constexpr int kActivationWarp = 0;
  static constexpr int kWeightWarp = 1;
  static constexpr int kExchangeWarp = 2;  // initialises the barriers of a cluster's exchange
  static constexpr int kProducerWarps = 4;
  // Of 65536, in units of 8 a thread.
  static constexpr int kProducerRegisters = G::kWarpgroups <= 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = G::kWarpgroups <= 2 ? 232 : G::kWarpgroups == 3 ? 160 : 112;

  using FragmentsOfUnit = Fragments<Config, Engine>;
  using Batch = typename FragmentsOfUnit::Batch;

  // A block often starts late, where another had to end before it, and the whole launch waits for it. So the
  // first weights are asked for beside the look-up's filling, before anybody meets.

  /// The barriers of the stages are there, and the look-up is filled.
  static __device__ __forceinline__ void meet_at_start() {
    named_barrier(6, 2 * layout::kLanes + G::kConsumers);
  }

  static __device__ __forceinline__ void fill_engine(unsigned char* shared,
                                                     const typename Engine::Parameter& form) {
    if constexpr (Config::kSegments) {
      Engine::fill_first(shared, form, first_row_tile(form.launch), consumer(), G::kConsumers);
    } else {
      Engine::fill(shared, form, consumer(), G::kConsumers);
    }
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
        record_((warp / 4 - 1) % G::kRowGroups * 4 + warp % 4),
        fragments_(shared + shared_layout_of<Config>().weights_offset(), record_, lane_),
        operand_(describe_operand(shared + shared_layout_of<Config>().activations_offset())),
        weight_stage_(k_group_),
        activation_unit_(k_group_) {
    engine_.begin_segment(0, lane_);  // for all segments that follow
    if constexpr (Config::kRowTables) load_tables(TileWalk<Config>(launch_));
    if constexpr (Config::kSegments) engine_.turn_to(first_row_tile(launch_));
  }

  /// Segment by segment. `next` counts units from the partition's begin; this group has every kKGroups-th.
  __device__ __forceinline__ void multiply() {
    TileWalk<Config> at(launch_);
    int begin = 0;
    int next = k_group_;
#pragma unroll 1
    while (at.units_left > 0) {
      if constexpr (Config::kSegments) turn_table(at);
      const int segment = at.segment();
      const int end = begin + segment;
      // Zeros rather than products that begin the sums anew: those would keep their registers over the
      // epilogue.
#pragma unroll
      for (int i = 0; i < G::kSums; ++i) sums_[i] = 0;
      if (next < end) {  // else nothing that fill() brings is kept over the epilogue
        fill();
#pragma unroll 1
        do {
          unit<0>(next + Config::kKGroups < end);
          next += Config::kKGroups;
        } while (next < end);
      }
      wait_products<0>();
      release_activations();
      if constexpr (Config::kRowTables) {
        // The last look-ups are done: those of the tile behind this one come while its sums are written.
        TileWalk<Config> behind = at;
        behind.next_segment();
        load_tables(behind);
      }
      ManyTokensEpilogue<Config>(launch_, shared_)
          .finish_segment(at, sums_, segment == G::kStepsPerTile, exchange_parity_);
      begin = end;
      at.next_segment();
    }
  }

  /// Those of the warp's record.
  __device__ __forceinline__ void load_tables(const TileWalk<Config>& at) {
    constexpr int kRecords = Config::kTileRows / layout::kRecordRows;
    if (at.units_left > 0) engine_.load_tables(at.place().row_tile * kRecords + record_, lane_);
  }

  /// To that of the tile's segment. Registers are made of it only behind fill(); the passage, which may lie
  /// between its entries, is in nobody's use while they are written: who ends a tile waits here for the
  /// others.
  __device__ __forceinline__ void turn_table(const TileWalk<Config>& at) {
    if (!engine_.turn_to(at.place().row_tile)) return;
    ConsumerBarriers<Config>::meet_all();  // nobody looks up for the last tile any more
    engine_.refill(consumer(), G::kConsumers);
    ConsumerBarriers<Config>::meet_all();
    engine_.begin_segment(0, lane_);
  }

  /// Of a block; where it has no units, any will do.
  static __device__ __forceinline__ int first_row_tile(const LaunchArguments& launch) {
    const TileWalk<Config> first(launch);
    return first.units_left > 0 ? first.place().row_tile : 0;
  }

  /// Among the threads that multiply.
  static __device__ __forceinline__ int consumer() {
    return thread_index() - kProducerWarps * layout::kLanes;
  }

  // While the products of a batch are under way, each of the three steps to A registers is done for a later
  // one:
  //
  //     products        i
  //     scaled          i + 1     into the A registers of batch i - 1, whose products have ended
  //     looked up       i + 2
  //     exchanged       i + 3, i + 4     every second turn
  //
  // so that nobody waits for a value in the turn in which it is asked for. The first batches of a segment are
  // made ahead of it, and behind its last one none is made. Batches of four products have values enough on
  // the way by themselves: for them all three steps are done for batch i + 1.

  static constexpr bool kStaggered = Config::kCommitSteps == 1;
  static_assert(kStaggered || G::kBatches == 2);
  /// The batch in whose turn the codes of its unit have been used: the next unit's are read there.
  static constexpr int kReadingBatch = kStaggered ? 3 : 1;

  /// Up to the first products.
  __device__ __forceinline__ void fill() {
    read_codes();
    if constexpr (kStaggered) {
      fragments_.template exchange<0>(natural_);
      fragments_.look_up(values_, natural_[0], engine_);
      fragments_.template scale<0, false>(a_[0][0], values_);
      fragments_.look_up(values_, natural_[1], engine_);
      fragments_.template exchange<1>(natural_);
    } else {
      make<0>(a_[0]);
    }
  }

  /// The turn of a batch, and those of the unit's batches behind it. `more`: the segment has another unit.
  template <int kBatch>
  __device__ __forceinline__ void unit(bool more) {
    constexpr int kFirst = kBatch * Config::kCommitSteps;
    constexpr bool kNewStage = kFirst % G::kStepsPerStage == 0;
    constexpr int kPart = kFirst / G::kStepsPerStage;
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
    constexpr bool kExchanges = kStaggered && kBatch % 2 == 1;
    typename FragmentsOfUnit::Pair ahead = {0, 0};
    if constexpr (kExchanges) {
      constexpr int kPair = (kBatch + 3) / 2;  // behind the last one: of the next unit
      if (kPair < FragmentsOfUnit::kPairs || more) {
        fragments_.template exchange<kPair % FragmentsOfUnit::kPairs>(ahead);
      }
    }
    if constexpr (kBatch == kReadingBatch) {
      release_weights(weight_stage_);
      next_weight_stage();
      fragments_.keep_scales();
      if (more) read_codes();
    }
    wait_products<1>();
    if constexpr (kNewStage) {  // the batch before was the last that used its stage
      release_activations();
      used_stage_ = stage;
    }
    constexpr int kNext = (kBatch + 1) % G::kBatches;
    if constexpr (kStaggered) {
      if (kNext > 0 || more) {
        fragments_.template scale<kNext, (kNext > kReadingBatch)>(a_[kNext % 2][0], values_);
      }
      if (kBatch + 2 < G::kBatches || more) fragments_.look_up(values_, natural_[kBatch % 2], engine_);
      if constexpr (kExchanges) natural_[0] = ahead[0], natural_[1] = ahead[1];
    } else {
      if (kNext > 0 || more) make<kNext>(a_[kNext]);
    }
    if constexpr (kNext > 0) {
      unit<kNext>(more);
    } else {
      next_activation_unit();
    }
  }

  /// All three steps of a batch of four.
  template <int kBatch>
  __device__ __forceinline__ void make(Batch& a) const {
    make_pair<2 * kBatch>(a[0], a[1]);
    make_pair<2 * kBatch + 1>(a[2], a[3]);
  }
  template <int kPair>
  __device__ __forceinline__ void make_pair(unsigned int (&first)[4], unsigned int (&second)[4]) const {
    typename FragmentsOfUnit::Pair natural;
    fragments_.template exchange<kPair>(natural);
    fragments_.look_up(first, natural[0], engine_);
    fragments_.look_up(second, natural[1], engine_);
    fragments_.template scale<2 * kPair, false>(first, first);
    fragments_.template scale<2 * kPair + 1, false>(second, second);
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
  int record_;  ///< of a unit's, which the warp has
  FragmentsOfUnit fragments_;
  unsigned long long operand_;  ///< X stage 0
  int weight_stage_;
  int activation_unit_;  ///< pair of X stages
  unsigned int weight_parity_ = 0;
  unsigned int activation_parity_ = 0;
  unsigned int exchange_parity_ = 0;        ///< of the blocks of a cluster
  int used_stage_ = -1;                     ///< of X: products that read it may be under way
  typename FragmentsOfUnit::Pair natural_;  ///< codes that are looked up next
  unsigned int values_[4];                  ///< looked up, not scaled yet
  Batch a_[2];
  float sums_[G::kSums];
};

}  // namespace lutsmith::device
