#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/weights/unit.cuh"

// A look-up engine turns codes into A registers of mma: class LookUp<Config>, one of which kernel.cu
// includes. fill(), static, makes ready its kSharedBytes at the start of the block's shared memory, a block
// barrier follows, and from begin_segment() on look_up() may read. Where rows have tables of their own,
// load_tables() asks for those of a tile. docs/kernels.md says it in full.

namespace lutsmith::device {

/// The parameter of a kernel whose table, or tables of segments of rows, are part of it.
template <class Config, bool segments = Config::kSegments>
struct InlineTableOf {
  using Parameter = KernelParameter<table_length(Config::kBits, Config::kPairTable)>;
};
template <class Config>
struct InlineTableOf<Config, true> {
  using Parameter = SegmentedParameter<table_length(Config::kBits, Config::kPairTable)>;
};
template <class Config>
using InlineTable = typename InlineTableOf<Config>::Parameter;

/// Refuses an engine that lacks something, in a sentence.
template <class Engine, class Config>
struct LookUpContract {
  using Parameter = typename Engine::Parameter;

  template <class S>
  static __device__ S& made();
  template <class E, class = void>
  struct Offers {
    static constexpr bool value = false;
  };
  template <class E>
  struct Offers<E, decltype(E::fill(made<unsigned char*>(), made<const Parameter>(), 0, 32),
                            made<E>().begin_segment(0, 0),
                            made<const E>().look_up(made<unsigned int[4]>(), made<const WeightUnit<Config>>(),
                                                    0, 0),
                            void())> {
    static constexpr bool value = true;
  };

  static_assert(Engine::kSharedBytes % 16 == 0, "what follows the engine's shared memory is aligned to 16");
  static_assert(__is_constructible(Engine, unsigned char*, const Parameter&),
                "a look-up engine is made from (shared, parameter)");
  static_assert(
      Offers<Engine>::value,
      "a look-up engine has fill(shared, parameter, thread, threads), begin_segment(row_tile, lane) "
      "and look_up(a, unit, record, mma)");
  static constexpr bool kKept = true;
};

}  // namespace lutsmith::device
