#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/weights/unit.cuh"

// A look-up engine, which turns codes into A registers of mma: class LookUp<Config>, of which kernel.cu
// includes one. One object a thread. docs/kernels.md has the contract in full.
//
//   kSharedBytes                             at the start of the block's shared memory, a multiple of 16
//   fill(shared, parameter, thread, threads) static; from the parameter alone; a block barrier follows
//   LookUp(shared, parameter)
//   begin_segment(lane)                      before a run of steps: from here on look-ups may read
//   look_up(a, unit, record, mma)            register i: the two weights of byte i of unit.nibbles()

namespace lutsmith::device {

/// Refuses an engine that lacks something, in a sentence.
template <class Engine, class Config>
struct LookUpContract {
  using Parameter = KernelParameter<table_length(Config::kBits, Config::kPairTable)>;

  template <class E, class Unit, class = void>
  struct Offers {
    static constexpr bool value = false;
  };
  template <class E, class Unit>
  struct Offers<E, Unit,
                decltype(E::fill(static_cast<unsigned char*>(nullptr),
                                 *static_cast<const Parameter*>(nullptr), 0, 32),
                         static_cast<E*>(nullptr)->begin_segment(0),
                         static_cast<const E*>(nullptr)->look_up(*static_cast<unsigned int (*)[4]>(nullptr),
                                                                 *static_cast<const Unit*>(nullptr), 0, 0),
                         void())> {
    static constexpr bool value = true;
  };

  static_assert(Engine::kSharedBytes % 16 == 0, "what follows the engine's shared memory is aligned to 16");
  static_assert(__is_constructible(Engine, unsigned char*, const Parameter&),
                "a look-up engine is made from (shared, parameter)");
  static_assert(Offers<Engine, WeightUnit<Config>>::value,
                "a look-up engine has fill(shared, parameter, thread, threads), begin_segment(lane) and "
                "look_up(a, unit, record, mma)");
  static constexpr bool kKept = true;
};

}  // namespace lutsmith::device
