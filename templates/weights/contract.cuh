#pragma once

// What a way of the weights to the warp offers. The main loop knows no more of it than this, and kernel.cu
// includes the one that the schedule names; each is a class WeightStream<Config>, one object per thread.
//
//   WeightStream(shared, weights, first, warp, lane)
//       `shared` is where the block's rings begin (shared_memory::ring_bytes of them), `weights` the packed
//       matrix, `first` the first step of the partition. Starts nothing.
//   prime()
//       Starts the first loads. They touch nothing but weights, which no kernel writes, so that this goes
//       before the wait for the launch before.
//
// and then once for every step of the partition, in order, by all lanes together:
//
//   begin_step(slot)       always
//   take(slot)             the step's WeightUnit; only where the warp has a unit in this step
//   release(slot, used)    always; `used` is a number that depends on every code of the unit just taken
//
// `slot` is the parity of the step in the partition, a constant, so that it can name registers. The memory a
// unit came from is filled again, for a step still to come, in begin_step() or in release(), as the stream
// likes; what take() gave stays as it is until release(). That loads were issued does not mean that they have
// arrived, so a stream whose refill the hardware carries out on its own (copies to shared memory) starts it
// only once `used` is known.

#include "templates/weights/unit.cuh"

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
