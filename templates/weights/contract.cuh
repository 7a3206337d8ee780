#pragma once

#include "templates/weights/unit.cuh"

// A way of the weights to the warp: class WeightStream<Config>, of which kernel.cu includes one. One object a
// thread; all lanes call together. docs/kernels.md has the contract in full.
//
//   WeightStream(shared, weights, first, warp, lane)   `shared`: where the block's rings begin
//   prime()                starts the first loads; touches nothing but weights
//
// and then for every step of the partition, in order (`slot`, a constant, is the parity of the step):
//
//   begin_step(slot)       always
//   take(slot)             the WeightUnit, unchanged until release(); only where the warp has a unit
//   release(slot, used)    always; `used` depends on every code of the unit taken
//
// In the first or the last of them the memory that the unit came from is filled again. A refill that the
// hardware carries out on its own begins only once `used` is known: issued loads may still be under way.

namespace lutsmith::device {

/// Refuses a stream that lacks something, in a sentence.
template <class Stream, class Config>
struct WeightStreamContract {
  template <class S, class Unit, class = void>
  struct Offers {
    static constexpr bool value = false;
  };
  template <class S, class Unit>
  struct Offers<S, Unit,
                decltype(static_cast<S*>(nullptr)->prime(), static_cast<S*>(nullptr)->begin_step(0),
                         static_cast<Unit>(static_cast<S*>(nullptr)->take(0)),
                         static_cast<S*>(nullptr)->release(0, 0.0f), void())> {
    static constexpr bool value = true;
  };

  static_assert(__is_constructible(Stream, unsigned char*, const unsigned char*, const Walk<Config>&, int,
                                   int),
                "a weight stream is made from (shared, weights, first step, warp, lane)");
  static_assert(Offers<Stream, WeightUnit<Config>>::value,
                "a weight stream has prime(), begin_step(slot), take(slot) and release(slot, used)");
  static constexpr bool kKept = true;
};

}  // namespace lutsmith::device
