#pragma once

namespace lutsmith {

/// While it lives, one allocation of its thread by `new` fails: the one that `before` others
/// come before.
class FailingAllocation {
 public:
  explicit FailingAllocation(int before);
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;
  ~FailingAllocation();
};

}  // namespace lutsmith
