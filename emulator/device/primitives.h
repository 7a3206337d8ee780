#pragma once

// The host's implementation of templates/primitives: included before an emitted source, which then leaves
// its own out. Every function asks the machine, and tells it the line it was called from.

#include "emulator/device/machine.h"

#define LUTSMITH_EMULATOR 1
#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

struct uint2 {
  unsigned int x, y;
};

struct alignas(16) uint4 {
  unsigned int x, y, z, w;
};

inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) {
  return {x, y, z, w};
}

inline int min(int a, int b) { return a < b ? a : b; }

namespace lutsmith::emulator {

static thread_local Machine* machine_ = nullptr;

inline Machine& machine(int line) {
  machine_->line = line;
  return *machine_;
}

/// Runs one thread of the kernel, whose parameter is as long as the kernel says.
template <class Parameter>
void run_thread(void (*kernel)(Parameter), Machine& machine, const void* parameter) {
  machine_ = &machine;
  // -ftrivial-auto-var-init=pattern. Clang's integers, 0xaaaaaaaa, could be two 16-bit floats.
#ifdef __clang__
  machine.float_poison = 0xffffffffu;
#else
  machine.integer_poison = 0xfefefefeu;
  machine.has_integer_poison = true;
  machine.float_poison = 0xfefefefeu;
#endif
  machine.has_float_poison = true;
  kernel(*static_cast<const Parameter*>(parameter));
}

}  // namespace lutsmith::emulator

// The line of a call, as the last parameter of every primitive.
#define LUTSMITH_LINE int line = __builtin_LINE()

namespace lutsmith::device {

using emulator::machine;
using emulator::Region;

enum class Element;

// Threads.

inline int thread_index(LUTSMITH_LINE) { return machine(line).thread_index(); }
inline int block_index(LUTSMITH_LINE) { return machine(line).block_index(); }
inline void block_barrier(LUTSMITH_LINE) { machine(line).block_barrier(); }
inline void warp_barrier(LUTSMITH_LINE) { machine(line).warp_barrier(); }
inline bool all_lanes(bool value, LUTSMITH_LINE) { return machine(line).ballot(value) == 0xffffffffu; }

// Shared memory.

inline unsigned char* dynamic_shared(LUTSMITH_LINE) { return machine(line).dynamic_shared(); }

inline unsigned int shared_address(const void* pointer, LUTSMITH_LINE) {
  return machine(line).shared_address(pointer);
}

template <class T>
inline T load_shared(const T* address, LUTSMITH_LINE) {
  T value;
  machine(line).load_shared(&value, address, sizeof(T));
  return value;
}

template <class T>
inline void store_shared(T* address, T value, LUTSMITH_LINE) {
  machine(line).store_shared(address, &value, sizeof(T));
}

// Look-up in the table of pairs.

inline unsigned int readable_from_here(int lane) { return static_cast<unsigned int>(lane) * 4; }

inline void look_up_pairs(unsigned int (&a)[4], unsigned int table, unsigned int nibbles,
                          unsigned int lane_offset, LUTSMITH_LINE) {
  for (int i = 0; i < 4; ++i) {
    const unsigned int address = table + ((nibbles >> 8 * i & 0xffu) << 8 | (lane_offset & 0xffu));
    machine(line).load_shared(&a[i], machine(line).shared_pointer(address), 4);
  }
}

// Global memory.

struct StreamedWeights {
  template <class T>
  static T load(const unsigned char* address, int line) {
    T value;
    machine(line).load_global(Region::weights, &value, address, sizeof(T));
    return value;
  }
  static uint4 load_16(const unsigned char* address, LUTSMITH_LINE) { return load<uint4>(address, line); }
  static uint2 load_8(const unsigned char* address, LUTSMITH_LINE) { return load<uint2>(address, line); }
  static unsigned int load_scales(const unsigned char* address, LUTSMITH_LINE) {
    return load<unsigned int>(address, line);
  }
};

inline unsigned short load_scale(const unsigned char* address, LUTSMITH_LINE) {
  return StreamedWeights::load<unsigned short>(address, line);
}

inline uint4 load_activations_16(const unsigned short* address, bool present, LUTSMITH_LINE) {
  uint4 value = {0, 0, 0, 0};
  if (present) machine(line).load_global(Region::activations, &value, address, sizeof(value));
  return value;
}

inline float load_partial_sum(const float* address, LUTSMITH_LINE) {
  float value;
  machine(line).load_global(Region::partial_sums, &value, address, sizeof(value));
  return value;
}

inline void store_partial_sum(float* address, float value, LUTSMITH_LINE) {
  machine(line).store_global(Region::partial_sums, address, &value, sizeof(value));
}

inline void store_output(unsigned short* address, unsigned short bits, LUTSMITH_LINE) {
  machine(line).store_global(Region::output, address, &bits, sizeof(bits));
}

inline void fence_device() {}  // count_arrival() orders what the barriers around it gathered

inline unsigned int count_arrival(unsigned int* counter, LUTSMITH_LINE) {
  return machine(line).count_arrival(counter);
}

inline void reset_arrivals(unsigned int* counter, LUTSMITH_LINE) {
  const unsigned int zero = 0;
  machine(line).store_global(Region::arrivals, counter, &zero, sizeof(zero));
}

// cp.async.

inline void copy_async_16(unsigned char* to, const unsigned char* from, LUTSMITH_LINE) {
  machine(line).copy_async(to, from, 16);
}

inline void commit_copies(LUTSMITH_LINE) { machine(line).commit_copies(); }

template <int pending>
inline void wait_copies(LUTSMITH_LINE) {
  machine(line).wait_copies(pending);
}

// Bulk copies.

using Mbarrier = unsigned long long;

inline void initialize_barrier(Mbarrier* barrier, int arrivals, LUTSMITH_LINE) {
  machine(line).initialize_barrier(barrier, arrivals);
}
inline void fence_barrier_initialization(LUTSMITH_LINE) { machine(line).fence_barrier_initialization(); }

inline void arrive_expecting(Mbarrier* barrier, unsigned int bytes, LUTSMITH_LINE) {
  machine(line).arrive_expecting(barrier, bytes);
}

inline void copy_bulk(unsigned char* to, const unsigned char* from, unsigned int bytes, Mbarrier* barrier,
                      LUTSMITH_LINE) {
  machine(line).copy_bulk(to, from, bytes, barrier);
}

inline void wait_barrier(Mbarrier* barrier, unsigned int parity, LUTSMITH_LINE) {
  machine(line).wait_barrier(barrier, parity);
}

// Programmatic dependent launch.

template <bool enabled>
inline void release_dependents(LUTSMITH_LINE) {
  if (enabled) machine(line).release_dependents();
}

template <bool enabled>
inline void wait_for_dependency(LUTSMITH_LINE) {
  if (enabled) machine(line).wait_for_dependency();
}

// Arithmetic.

inline float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

inline unsigned int bits_of(float value) {
  unsigned int bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

template <Element element>
inline float to_float(unsigned short bits, LUTSMITH_LINE) {
  return machine(line).to_float(bits, static_cast<int>(element) == 1);
}

template <Element element>
inline unsigned short from_float(float value, LUTSMITH_LINE) {
  return machine(line).from_float(value, static_cast<int>(element) == 1);
}

template <Element element>
inline void multiply_accumulate(float (&d)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1,
                                LUTSMITH_LINE) {
  machine(line).multiply_accumulate(d, a, b0, b1, static_cast<int>(element) == 1);
}

}  // namespace lutsmith::device
