#pragma once

// The host's implementation of templates/primitives: included before an emitted source, which then leaves
// its own out. Every function asks the machine, and tells it the line it was called from.

#include "emulator/device/machine.h"

// NOLINTBEGIN(readability-identifier-naming): names of CUDA, and of templates/

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

struct alignas(16) float4 {
  float x, y, z, w;
};

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) {
  return {x, y, z, w};
}

inline int min(int a, int b) { return a < b ? a : b; }

namespace lutsmith::emulator {

inline thread_local Machine* machine_ = nullptr;

inline Machine& machine(int line) {
  machine_->line = line;
  return *machine_;
}

/// Fills the part of the stack where the kernel's variables will lie: members of temporary objects are not
/// filled by the compiler. Every byte of a poison is the same; the compiler's own filling would only repeat
/// it, and a loop that is not optimised takes longer than many a kernel.
__attribute__((noinline)) inline void poison_stack(unsigned int poison) {
  __attribute__((uninitialized)) unsigned char below[16384];
  __builtin_memset(below, static_cast<int>(poison & 0xffu), sizeof(below));
  asm volatile("" : : "r"(below) : "memory");
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
  poison_stack(machine.float_poison);
  kernel(*static_cast<const Parameter*>(parameter));
}

}  // namespace lutsmith::emulator

// The line of a call, as the last parameter of every primitive.
#define LUTSMITH_LINE int line = __builtin_LINE()

namespace lutsmith {

struct TensorMap;

}  // namespace lutsmith

namespace lutsmith::device {

using emulator::machine;
using emulator::Region;

enum class Element;

// Threads.

inline int thread_index(LUTSMITH_LINE) { return machine(line).thread_index(); }
inline int block_index(LUTSMITH_LINE) { return machine(line).block_index(); }
inline int block_count(LUTSMITH_LINE) { return machine(line).block_count(); }
inline void block_barrier(LUTSMITH_LINE) { machine(line).block_barrier(); }
inline void warp_barrier(LUTSMITH_LINE) { machine(line).warp_barrier(); }
inline void named_barrier(int barrier, int threads, LUTSMITH_LINE) {
  machine(line).named_barrier(barrier, threads);
}
inline bool all_lanes(bool value, LUTSMITH_LINE) { return machine(line).ballot(value) == 0xffffffffu; }

inline unsigned int exchange_lanes(unsigned int value, int mask, LUTSMITH_LINE) {
  return machine(line).shuffle(value, machine(line).thread_index() % 32 ^ mask);
}

inline float exchange_lanes(float value, int mask, LUTSMITH_LINE) {
  return __builtin_bit_cast(float, exchange_lanes(__builtin_bit_cast(unsigned int, value), mask, line));
}

inline int uniform_warp_index(LUTSMITH_LINE) { return machine(line).thread_index() / 32; }

template <int registers>
inline void claim_registers(LUTSMITH_LINE) {
  machine(line).change_registers(true, registers);
}

template <int registers>
inline void give_up_registers(LUTSMITH_LINE) {
  machine(line).change_registers(false, registers);
}

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

inline void load_matrices_transposed(unsigned int (&matrices)[4], const unsigned char* column,
                                     LUTSMITH_LINE) {
  machine(line).load_matrices_transposed(matrices, column);
}

inline void store_matrices_transposed(unsigned char* column, const unsigned int (&matrices)[4],
                                      LUTSMITH_LINE) {
  machine(line).store_matrices_transposed(column, matrices);
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

inline void look_up_compact_pairs(unsigned int (&a)[4], unsigned int lane_table, unsigned int nibbles,
                                  LUTSMITH_LINE) {
  for (int i = 0; i < 4; ++i) {
    const unsigned int address = lane_table + 128 * (nibbles >> 8 * i & 0xffu);
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

inline uint2 load_activations_8(const unsigned short* address, bool present, LUTSMITH_LINE) {
  uint2 value = {0, 0};
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

inline float4 load_partial_sums_4(const float* address, bool present, LUTSMITH_LINE) {
  float4 value = {0, 0, 0, 0};
  if (present) machine(line).load_global(Region::partial_sums, &value, address, sizeof(value));
  return value;
}

inline void store_partial_sums_4(float* address, float4 value, LUTSMITH_LINE) {
  machine(line).store_global(Region::partial_sums, address, &value, sizeof(value));
}

inline void store_output_16(unsigned short* address, uint4 bits, LUTSMITH_LINE) {
  machine(line).store_global(Region::output, address, &bits, sizeof(bits));
}

inline void store_output(unsigned short* address, unsigned short bits, LUTSMITH_LINE) {
  machine(line).store_global(Region::output, address, &bits, sizeof(bits));
}

inline unsigned short load_residual(const unsigned short* address, LUTSMITH_LINE) {
  unsigned short value;
  machine(line).load_global(Region::residual, &value, address, sizeof(value));
  return value;
}

inline float load_residual(const float* address, LUTSMITH_LINE) {
  float value;
  machine(line).load_global(Region::residual, &value, address, sizeof(value));
  return value;
}

inline uint4 load_residual_16(const unsigned short* address, LUTSMITH_LINE) {
  uint4 value;
  machine(line).load_global(Region::residual, &value, address, sizeof(value));
  return value;
}

inline unsigned short load_bias(const unsigned short* address, LUTSMITH_LINE) {
  unsigned short value;
  machine(line).load_global(Region::bias, &value, address, sizeof(value));
  return value;
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

inline void copy_activations_async_16(unsigned char* to, const unsigned short* from, bool present,
                                      LUTSMITH_LINE) {
  machine(line).copy_activations_async(to, from, present);
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

inline void arrive(Mbarrier* barrier, LUTSMITH_LINE) { machine(line).arrive_expecting(barrier, 0); }

inline void copy_bulk(unsigned char* to, const unsigned char* from, unsigned int bytes, Mbarrier* barrier,
                      LUTSMITH_LINE) {
  machine(line).copy_bulk(to, from, bytes, barrier);
}

inline void prefetch_tensor_map(const TensorMap& map, LUTSMITH_LINE) {
  machine(line).prefetch_tensor_map(&map);
}

inline void copy_tensor(unsigned char* to, const TensorMap& map, int column, int row, Mbarrier* barrier,
                        LUTSMITH_LINE) {
  machine(line).copy_tensor(to, &map, column, row, barrier);
}

inline void wait_barrier(Mbarrier* barrier, unsigned int parity, LUTSMITH_LINE) {
  machine(line).wait_barrier(barrier, parity);
}

inline void wait_barrier_ahead(Mbarrier* barrier, unsigned int parity, LUTSMITH_LINE) {
  machine(line).wait_barrier_ahead(barrier, parity);
}

// Clusters.

inline int cluster_rank(LUTSMITH_LINE) { return machine(line).cluster_rank(); }
inline void arrive_at_cluster(LUTSMITH_LINE) { machine(line).arrive_at_cluster(); }
inline void wait_for_cluster(LUTSMITH_LINE) { machine(line).wait_for_cluster(); }

inline void arrive_remote(Mbarrier* barrier, int rank, LUTSMITH_LINE) {
  machine(line).arrive_remote(barrier, rank);
}

inline void store_async_16(float4* to, float4 value, Mbarrier* barrier, int rank, LUTSMITH_LINE) {
  machine(line).store_async(to, rank, &value, barrier);
}

inline void wait_barrier_of_cluster(Mbarrier* barrier, unsigned int parity, LUTSMITH_LINE) {
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

inline unsigned int kept(unsigned int value) { return value; }

inline unsigned int bits_of(float value) {
  unsigned int bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// A number that is written as it is: to round one looks for the poison as well.
inline void store_output(float* address, float value, LUTSMITH_LINE) {
  if (bits_of(value) == machine(line).float_poison) machine(line).report_unwritten();
  machine(line).store_global(Region::output, address, &value, sizeof(value));
}

inline float multiply_add(float a, float b, float c, LUTSMITH_LINE) {
  const unsigned int poison = machine(line).float_poison;
  if (bits_of(a) == poison || bits_of(b) == poison || bits_of(c) == poison) machine(line).report_unwritten();
  return __builtin_fmaf(a, b, c);
}

inline float power_of_two(float exponent, LUTSMITH_LINE) { return machine(line).exp2(exponent); }

inline float reciprocal(float value, LUTSMITH_LINE) { return machine(line).reciprocal(value); }

inline unsigned int permute_bytes(unsigned int low, unsigned int high, unsigned int selector) {
  const unsigned long long bytes = static_cast<unsigned long long>(high) << 32 | low;
  unsigned int permuted = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned int nibble = selector >> 4 * i & 15u;
    const unsigned int byte = bytes >> (nibble & 7u) * 8 & 0xffu;
    const unsigned int sign = byte >> 7 != 0 ? 0xffu : 0;
    permuted |= (nibble < 8 ? byte : sign) << 8 * i;
  }
  return permuted;
}

inline unsigned int select_bytes(unsigned int low, unsigned int high, unsigned int selector) {
  const unsigned long long bytes = static_cast<unsigned long long>(high) << 32 | low;
  unsigned int selected = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned int byte = bytes >> (selector >> 4 * i & 7u) * 8 & 0xffu;
    selected |= byte << 8 * i;
  }
  return selected;
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

template <Element element>
inline unsigned int pair_from_floats(float low, float high, LUTSMITH_LINE) {
  return from_float<element>(low, line) | static_cast<unsigned int>(from_float<element>(high, line)) << 16;
}

template <Element element>
inline unsigned int multiply_pairs(unsigned int a, unsigned int b, LUTSMITH_LINE) {
  const auto multiply = [&](int shift) -> unsigned int {
    return machine(line).multiply(static_cast<unsigned short>(a >> shift),
                                  static_cast<unsigned short>(b >> shift), static_cast<int>(element) == 1);
  };
  return multiply(0) | multiply(16) << 16;
}

template <Element element>
inline unsigned int multiply_add_pairs(unsigned int a, unsigned int b, unsigned int c, LUTSMITH_LINE) {
  const auto multiply_add = [&](int shift) -> unsigned int {
    return machine(line).multiply_add(
        static_cast<unsigned short>(a >> shift), static_cast<unsigned short>(b >> shift),
        static_cast<unsigned short>(c >> shift), static_cast<int>(element) == 1);
  };
  return multiply_add(0) | multiply_add(16) << 16;
}

// Products of a warpgroup.

inline unsigned long long describe_operand(const unsigned char* shared, LUTSMITH_LINE) {
  constexpr unsigned long long kSwizzle128 = 1ull << 62;
  constexpr unsigned long long kNextOctet = 1024 >> 4;
  constexpr unsigned long long kUnused = 1;
  return kSwizzle128 | kNextOctet << 32 | kUnused << 16 | shared_address(shared, line) >> 4;
}

inline void fence_registers(LUTSMITH_LINE) { machine(line).fence_registers(); }

inline void commit_products(LUTSMITH_LINE) { machine(line).commit_products(); }

template <int pending>
inline void wait_products(LUTSMITH_LINE) {
  machine(line).wait_products(pending);
}

template <Element element, int sums>
inline void multiply_async(float (&d)[sums], const unsigned int (&a)[4], unsigned long long b_described,
                           bool accumulate, LUTSMITH_LINE) {
  static_assert(sums == 8 || sums == 16 || sums == 24 || sums == 32 || sums == 48 || sums == 64 ||
                sums == 80 || sums == 96 || sums == 128);
  machine(line).multiply_async(d, 2 * sums, a, b_described, accumulate, static_cast<int>(element) == 1);
}

}  // namespace lutsmith::device

// NOLINTEND(readability-identifier-naming)
