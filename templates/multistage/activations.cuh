#pragma once

#include "templates/multistage/geometry.cuh"
#include "templates/primitives/async_copy.cuh"
#include "templates/primitives/pairs.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/primitives/warpgroups.cuh"

// X in shared memory: a ring of stages for each group along K, filled by the asynchronous copies of all its
// threads, read by all its warps.
//
// A stage has a row for every token, in pieces of 16 bytes. Lane (g, t) reads piece 4 v + t of token g of an
// octet, which is B of two mma in the order of k that packed codes have. A load of 16 bytes a lane takes
// eight lanes at a time, two tokens; so the pieces of odd tokens lie four places from where those of even
// tokens do, and the eight fall on all banks.
//
//   place in 128 bytes     0  1  2  3  4  5  6  7
//   piece of even tokens   0  1  2  3  4  5  6  7
//   piece of odd tokens    4  5  6  7  0  1  2  3

namespace lutsmith::device {

template <class Config>
class ActivationStages {
 public:
  using G = MultistageGeometry<Config>;

  __device__ __forceinline__ ActivationStages(const LaunchArguments& launch, unsigned char* shared,
                                              const GroupWalk<Config>& first, int k_group)
      : launch_(launch),
        stages_(shared + multistage_layout_of<Config>().activations_offset()),
        of_group_(k_group * multistage_layout_of<Config>().activations_of_group_bytes()),
        ahead_(first),
        k_group_(k_group) {
    const int lane = thread_index() % layout::kLanes;
    from_ = place(lane / 4, lane % 4);
    find_tokens();
  }

  /// Starts the copies of all stages but one.
  __device__ __forceinline__ void prime() {
#pragma unroll 1
    for (int stage = 0; stage < Config::kActivationStages - 1; ++stage) copy(stage);
  }

  /// Turns to the next stage when it has arrived. All warps of the group then have done with the one before.
  __device__ __forceinline__ void begin_stage() {
    stage_ = next(stage_);
    wait_copies<Config::kActivationStages - 2>();
    if constexpr (Config::kKGroups == 1) {
      block_barrier();
    } else {
      named_barrier(1 + k_group_, G::kRowThreads);
    }
    // The place of vector v is that of v ^ 1 with another bit 6. Kept, so that all else is a constant of the
    // load: else each has an addition, and registers hold what they add.
    even_ = kept(static_cast<unsigned int>(of_group_ + stage_ * kStageBytes + from_));
    odd_ = kept(even_ ^ kOtherHalf);
  }

  /// Once a stage, after begin_stage(): fills the one before it.
  __device__ __forceinline__ void refill() { copy(stage_ == 0 ? Config::kActivationStages - 1 : stage_ - 1); }

  /// B of two mma: of a stage's vector of 32 k, for an octet of tokens.
  __device__ __forceinline__ uint4 read(int octet, int vector) const {
    const int offset = vector / 2 * 128 + octet * 8 * kRowBytes;
    return load_shared(reinterpret_cast<const uint4*>(stages_ + (vector % 2 == 0 ? even_ : odd_) + offset));
  }

 private:
  static constexpr int kRowBytes = Config::kStageColumns * 2;  // of a token
  static constexpr int kRowPieces = kRowBytes / multistage::kPieceBytes;
  static constexpr int kPieces = Config::kTileTokens * kRowPieces;
  static constexpr int kPassTokens = G::kRowThreads / kRowPieces;  // that all threads copy at a time
  static constexpr int kStageBytes = multistage_layout_of<Config>().activation_stage_bytes();
  static constexpr int kUnitStages = layout::kRecordColumns / Config::kStageColumns;
  static constexpr int kOtherHalf = 64;  // bytes: four pieces
  static_assert(G::kRowThreads % kRowPieces == 0, "a pass copies whole rows");
  static_assert(kPassTokens % 2 == 0, "a thread's places are the same in every pass");

  static __device__ __forceinline__ int place(int token, int piece) {
    return token * kRowBytes + ((piece * multistage::kPieceBytes) ^ (token % 2 * kOtherHalf));
  }

  static __device__ __forceinline__ int next(int stage) {
    return stage + 1 == Config::kActivationStages ? 0 : stage + 1;
  }

  // What the thread copies of a row of tokens. Asked anew each time: registers are scarce.
  static __device__ __forceinline__ int copier() {
    return static_cast<int>(kept(static_cast<unsigned int>(thread_index()))) % G::kRowThreads;
  }

  /// Turns to the tokens of the tile ahead.
  __device__ __forceinline__ void find_tokens() {
    const int thread = copier();
    first_token_ = ahead_.place().token_tile * Config::kTileTokens + thread / kRowPieces;
    row_ = launch_.activations + first_token_ * launch_.activation_stride + thread % kRowPieces * 8;
  }

  /// Tokens and k beyond the matrix are filled with zeros.
  __device__ __forceinline__ void copy(int stage) {
    if (ahead_.units_left > 0) {
      const int token = copier() / kRowPieces;
      const int piece = copier() % kRowPieces;
      const int column = ahead_.unit * layout::kRecordColumns + part_ * Config::kStageColumns;
      const bool inside = G::kWholeColumns || column + piece * 8 < Config::kK;
      unsigned char* to = stages_ + of_group_ + stage * kStageBytes + place(token, piece);
#pragma unroll
      for (int pass = 0; pass * kPassTokens < Config::kTileTokens; ++pass) {
        const int tokens = pass * kPassTokens;
        if (tokens + kPassTokens > Config::kTileTokens && token + tokens >= Config::kTileTokens) break;
        copy_activations_async_16(to + tokens * kRowBytes, row_ + tokens * launch_.activation_stride + column,
                                  inside && first_token_ + tokens < launch_.tokens);
      }
      advance();
    }
    commit_copies();  // for every stage, so that the count of commits is the count of stages
  }

  __device__ __forceinline__ void advance() {
    if (++part_ < kUnitStages) return;
    part_ = 0;
    if (ahead_.advance()) find_tokens();
  }

  const LaunchArguments& launch_;
  unsigned char* stages_;  ///< of all groups
  int of_group_;           ///< bytes to the group's first
  GroupWalk<Config> ahead_;
  const unsigned short* row_;                  ///< this thread's first piece of the tile ahead
  int first_token_;                            ///< which is of this token
  int part_ = 0;                               ///< of the unit ahead, the stage that is copied next
  int stage_ = Config::kActivationStages - 1;  ///< that is read
  int from_;                                   ///< where the lane reads its first piece of a stage
  unsigned int even_;  ///< where it reads that of an even vector of the stage it is at
  unsigned int odd_;   ///< and of an odd one
  int k_group_;
};

}  // namespace lutsmith::device
