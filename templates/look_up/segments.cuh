#pragma once

#include "templates/look_up/contract.cuh"
#include "templates/primitives/pairs.cuh"

// Tables of segments of rows: an engine that knows which of them it is filled with, and when it has to be
// filled anew. Without segments the engine stays what it is.

namespace lutsmith::device {

template <class Config, class Engine>
class SegmentTables : public Engine {
 public:
  using Parameter = typename Engine::Parameter;

  /// Fills the engine for a block's first row tile, as Engine::fill().
  static __device__ __forceinline__ void fill_first(unsigned char* shared, const Parameter& parameter,
                                                    int row_tile, int thread, int threads) {
    fill_with(shared, parameter, segment_of(parameter, row_tile), thread, threads);
  }

  __device__ __forceinline__ SegmentTables(unsigned char* shared, const Parameter& parameter)
      : Engine(shared, parameter), shared_(shared), parameter_(parameter) {}

  /// Turns to the table of a row tile, the first time to that of fill_first(). Where it is another one than
  /// before, those who look up have to be done with the last tile; refill() and a barrier follow, and then
  /// begin_segment().
  __device__ __forceinline__ bool turn_to(int row_tile) {
    const int last = segment_;
    segment_ = segment_of(parameter_, row_tile);
    return segment_ != last;
  }

  __device__ __forceinline__ void refill(int thread, int threads) const {
    // Anew, or what the first filling made of it would keep a register over main loops that have none left.
    const auto anew = static_cast<int>(kept(static_cast<unsigned int>(thread)));
    fill_with(shared_, parameter_, segment_, anew, threads);
  }

 private:
  struct Table {
    const unsigned short* table;
  };

  static __device__ __forceinline__ void fill_with(unsigned char* shared, const Parameter& parameter,
                                                   int segment, int thread, int threads) {
    constexpr unsigned int kLength = table_length(Config::kBits, Config::kPairTable);
    Engine::fill(shared, Table{parameter.table + segment * kLength}, thread, threads);
  }

  /// A tile lies in one segment.
  static __device__ __forceinline__ int segment_of(const Parameter& parameter, int row_tile) {
    const int row = row_tile * Config::kTileRows;
    int segment = 0;
#pragma unroll
    for (int i = 0; i + 1 < kSegmentPlaces; ++i) segment += row >= parameter.segment_ends[i] ? 1 : 0;
    return segment;
  }

  unsigned char* shared_;
  const Parameter& parameter_;
  int segment_ = 0;
};

template <class Config, class Engine, bool = Config::kSegments>
struct TablesOf {
  using Type = Engine;
};
template <class Config, class Engine>
struct TablesOf<Config, Engine, true> {
  using Type = SegmentTables<Config, Engine>;
};

/// The engine with the tables that the kernel has.
template <class Config, class Engine>
using WithTables = typename TablesOf<Config, Engine>::Type;

}  // namespace lutsmith::device
