#pragma once

#include "templates/weights/unit.cuh"

// A weight stream: class WeightStream<Config>, one of which kernel.cu includes. prime() starts the first
// loads, and continue_priming(), before the launch waits for the one ahead of it, those that had better start
// a little later; then come, for every step (`parity` is its parity, a constant), begin_step(parity),
// take(parity) where the warp has a unit, and release(parity, used), with a number that depends on every code
// taken: a copy to shared memory must not start while issued loads may be under way. kHeld is how many units
// the stream has or waits for at once, kInRegisters whether they take registers. docs/kernels.md says it in
// full.

namespace lutsmith::device {

/// Refuses a stream that lacks something, in a sentence.
template <class Stream, class Config>
struct WeightStreamContract {
  template <class S>
  static __device__ S& made();
  template <class S, class = void>
  struct Offers {
    static constexpr bool value = false;
  };
  template <class S>
  struct Offers<S, decltype(made<S>().prime(), made<S>().continue_priming(), made<S>().begin_step(0),
                            WeightUnit<Config>(made<S>().take(0)), made<S>().release(0, 0.0f), void())> {
    static constexpr bool value = true;
  };

  static_assert(__is_constructible(Stream, unsigned char*, const unsigned char*, const Walk<Config>&, int,
                                   int),
                "a weight stream is made from (shared, weights, first step, warp, lane)");
  static_assert(Stream::kHeld >= (Stream::kInRegisters ? 2 : 1), "a weight stream holds what it waits for");
  static_assert(Offers<Stream>::value,
                "a weight stream has prime(), continue_priming(), begin_step(parity), take(parity) and "
                "release(parity, used)");
  static constexpr bool kKept = true;
};

}  // namespace lutsmith::device
