#pragma once

#include <cstddef>
#include <vector>

namespace lutsmith::emulator {

/// The registers of a block, of which warpgroups give up and claim (setmaxnreg). At the launch every thread
/// has the same share, a multiple of 8; more than all of these there never is.
class RegisterPool {
 public:
  explicit RegisterPool(int threads);

  struct Call {
    bool claim = false;
    int registers = 0;
    int line = 0;
  };

  /// A thread is at its next call; all of its warpgroup must make the same ones. Throws a Fault for one that
  /// no thread may make.
  void check(int thread, const Call& call);
  /// Carries it out; false: there are too few registers, and the thread waits.
  bool take(int thread, const Call& call);
  /// After the end of a block: all threads of a warpgroup have made as many calls.
  void check_end(int block) const;

 private:
  std::vector<int> held_;                 ///< of each thread
  std::vector<std::size_t> made_;         ///< calls of each thread
  std::vector<std::vector<Call>> calls_;  ///< of each warpgroup
  int free_ = 0;
};

}  // namespace lutsmith::emulator
