#pragma once

// What the device code asks of the machine that runs it. The emulator implements it; the primitives in
// primitives.h, which are compiled together with an emitted source, call it. Plain C++17 without any
// include, so that both sides agree and the compiler has little to read.

namespace lutsmith::emulator {

/// What a global address belongs to.
enum class Region { weights, activations, output, partial_sums, arrivals, residual, bias };

class Machine {
 public:
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Line of the emitted source that the running thread is at; set before every call.
  int line = 0;
  /// What the host compiler fills variables with that the source leaves uninitialised, where that is nothing
  /// a right kernel would have in them.
  unsigned int integer_poison = 0;
  unsigned int float_poison = 0;
  bool has_integer_poison = false;
  bool has_float_poison = false;

  // Threads.
  virtual int thread_index() const = 0;
  virtual int block_index() const = 0;
  virtual int block_count() const = 0;
  virtual void block_barrier() = 0;
  /// bar.sync id, threads: waits until so many threads have arrived.
  virtual void named_barrier(int id, int threads) = 0;
  virtual void warp_barrier() = 0;
  /// Bit l: the predicate of lane l.
  virtual unsigned int ballot(bool predicate) = 0;
  virtual unsigned int shuffle(unsigned int value, int from_lane) = 0;
  /// setmaxnreg: a claim waits until there are enough; else the rest is given up.
  virtual void change_registers(bool claim, int registers) = 0;

  // Shared memory. An address is what shared-memory instructions take, a pointer where it is stored.
  virtual unsigned char* dynamic_shared() = 0;
  virtual unsigned int shared_address(const void* pointer) const = 0;
  virtual void* shared_pointer(unsigned int address) = 0;
  virtual void load_shared(void* to, const void* from, int bytes) = 0;
  virtual void store_shared(void* to, const void* from, int bytes) = 0;
  /// ldmatrix.x4: lane l gives the address of row l % 8 of matrix l / 8.
  virtual void load_matrices(unsigned int (&to)[4], const void* row) = 0;
  /// ldmatrix.x4.trans: lane l gives the address of column l % 8 of matrix l / 8.
  virtual void load_matrices_transposed(unsigned int (&to)[4], const void* column) = 0;
  /// stmatrix.x4.trans: lane l gives the address of column l % 8 of matrix l / 8.
  virtual void store_matrices_transposed(void* column, const unsigned int (&matrices)[4]) = 0;

  // Global memory.
  virtual void load_global(Region region, void* to, const void* from, int bytes) = 0;
  virtual void store_global(Region region, void* to, const void* from, int bytes) = 0;
  /// atom.acq_rel.add of one; the count before.
  virtual unsigned int count_arrival(unsigned int* counter) = 0;

  // cp.async.
  virtual void copy_async(void* to, const void* from, int bytes) = 0;
  /// 16 bytes of X, or of zeros.
  virtual void copy_activations_async(void* to, const void* from, bool present) = 0;
  virtual void commit_copies() = 0;
  virtual void wait_copies(int pending) = 0;

  // cp.async.bulk with an mbarrier, whose phase is complete after `arrivals` arrivals and all expected bytes.
  virtual void initialize_barrier(unsigned long long* barrier, int arrivals) = 0;
  virtual void fence_barrier_initialization() = 0;
  virtual void arrive_expecting(unsigned long long* barrier, unsigned int bytes) = 0;
  virtual void copy_bulk(void* to, const void* from, unsigned int bytes, unsigned long long* barrier) = 0;
  /// The box at (column, row) of the matrix that `map`, made by describe_matrix(), describes.
  virtual void prefetch_tensor_map(const void* map) = 0;
  virtual void copy_tensor(void* to, const void* map, int column, int row, unsigned long long* barrier) = 0;
  virtual void wait_barrier(unsigned long long* barrier, unsigned int parity) = 0;
  virtual void wait_barrier_ahead(unsigned long long* barrier, unsigned int parity) = 0;

  // Clusters: blocks that reach each other's shared memory. `to` and `barrier` are the places in the calling
  // thread's own block; block `rank` of its cluster has the same.
  /// %cluster_ctarank: block_index() % the blocks of a cluster.
  virtual int cluster_rank() const = 0;
  /// barrier.cluster.arrive, by all threads of the cluster that have not ended. All that they did is known to
  /// those who have waited, which is more than the kernels' instruction says.
  virtual void arrive_at_cluster() = 0;
  /// barrier.cluster.wait.
  virtual void wait_for_cluster() = 0;
  /// mbarrier.arrive.shared::cluster.
  virtual void arrive_remote(unsigned long long* barrier, int rank) = 0;
  /// st.async.v4.f32: 16 bytes, which that block's mbarrier counts.
  virtual void store_async(void* to, int rank, const void* value, unsigned long long* barrier) = 0;

  // Programmatic dependent launch.
  virtual void release_dependents() = 0;
  virtual void wait_for_dependency() = 0;

  // Arithmetic.
  virtual float to_float(unsigned short bits, bool bf16) const = 0;
  virtual unsigned short from_float(float value, bool bf16) const = 0;
  /// mma.sync.m16n8k16, fp32 += 16-bit floats, in its fragments.
  virtual void multiply_accumulate(float (&d)[4], const unsigned int (&a)[4], unsigned int b0,
                                   unsigned int b1, bool bf16) = 0;
  /// ex2.approx.ftz: 2^value.
  virtual float exp2(float value) const = 0;
  /// rcp.approx.ftz: 1 / value.
  virtual float reciprocal(float value) const = 0;
  /// Rounded to nearest even.
  virtual unsigned short multiply(unsigned short a, unsigned short b, bool bf16) = 0;
  /// a * b + c, rounded once.
  virtual unsigned short multiply_add(unsigned short a, unsigned short b, unsigned short c, bool bf16) = 0;
  /// A value was used that nothing was written to.
  [[noreturn]] virtual void report_unwritten() const = 0;

  // wgmma.m64nNk16 of the four warps of a warpgroup: d has tokens / 2 sums a thread.
  virtual void fence_registers() = 0;
  virtual void multiply_async(float* d, int tokens, const unsigned int (&a)[4], unsigned long long b,
                              bool accumulate, bool bf16) = 0;
  virtual void commit_products() = 0;
  virtual void wait_products(int pending) = 0;

 protected:
  Machine() = default;
  ~Machine() = default;
};

}  // namespace lutsmith::emulator
