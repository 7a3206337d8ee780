#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lutsmith/lutsmith.h"
#include "machine.h"
#include "problem.h"
#include "runtime/driver.h"

namespace lutsmith::gpu_test {

struct LaunchOptions {
  int partitions = 0;
  std::int64_t activation_padding = 0;  ///< elements after each row of X; they hold NaN
  std::int64_t output_padding = 0;      ///< elements after each row of Y that must stay as they are
  bool in_place =
      false;  ///< R, of a problem that has one, lies where Y comes to lie; else it has that padding
};

/// A problem on the GPU: weights, X, and a Y that is poisoned before a launch and guarded around it.
///
///     Y  | guard | row 0 | padding | row 1 | padding | ... | guard |     all 0xffff, which is NaN
class Multiplication {
 public:
  explicit Multiplication(const Problem& problem, const LaunchOptions& options = {});

  const MatmulArguments& arguments() const { return arguments_; }
  MatmulArguments& arguments() { return arguments_; }

  /// Overwrites Y, padding and guards; puts R there, where that is its place.
  void poison();
  /// Y as [m, n], elements of its type, once the GPU is idle. Fails the test where padding or guards were
  /// written.
  std::vector<std::byte> result_bytes() const;
  /// The same of a Y of 16-bit floats.
  std::vector<std::uint16_t> result() const;

  /// Poisons, launches on a stream of its own with a workspace of its own, and waits.
  std::vector<std::uint16_t> run(const Kernel& kernel);

 private:
  std::int64_t n_;  ///< channels of Y
  std::int64_t m_;
  std::int64_t stride_;
  std::int64_t element_;  ///< bytes of one of Y
  std::vector<std::uint16_t> table_;
  std::vector<std::int64_t> segments_;
  cuda::Buffer weights_;
  cuda::Buffer activations_;
  cuda::Buffer output_;
  cuda::Buffer bias_;
  cuda::Buffer residual_;
  std::vector<std::byte> in_place_;  ///< R with the padding of Y
  MatmulArguments arguments_;
};

/// Of each family and each way of its weights some, with few warps and stages; a GPU may lack some of them.
std::vector<Schedule> schedules_of_every_stream();

/// Runs a kernel on a problem and expects the float64 product within rounding.
void expect_right(const KernelRequest& request, const Problem& problem, const LaunchOptions& options = {});

/// The same for a random problem with m tokens.
void expect_right(const KernelRequest& request, std::int64_t m, const LaunchOptions& options = {},
                  const ProblemOptions& problem = {});

}  // namespace lutsmith::gpu_test
