#include "cache/stores/circuit_breaker.h"

#include <algorithm>

namespace lutsmith::cache {
namespace {

constexpr int kMostBadAnswers = 3;
constexpr std::chrono::seconds kFirstPause{30};
constexpr std::chrono::seconds kLongestPause{600};

}  // namespace

bool CircuitBreaker::allow() {
  const std::lock_guard lock(mutex_);
  if (!is_open_) return true;
  if (probing_ || clock_() < until_) return false;
  probing_ = true;
  return true;
}

void CircuitBreaker::report_good() {
  const std::lock_guard lock(mutex_);
  // A call that began before it opened says nothing of how the server is now.
  if (is_open_ && !probing_) return;
  is_open_ = probing_ = false;
  bad_answers_ = 0;
  pause_ = std::chrono::seconds(0);
}

void CircuitBreaker::report_bad_answer() {
  const std::lock_guard lock(mutex_);
  if (++bad_answers_ >= kMostBadAnswers || probing_) open();
}

void CircuitBreaker::report_no_answer() {
  const std::lock_guard lock(mutex_);
  open();
}

void CircuitBreaker::open() {
  if (is_open_ && !probing_) return;  // calls that were under way when it opened
  pause_ = std::clamp(2 * pause_, kFirstPause, kLongestPause);
  until_ = clock_() + pause_;
  is_open_ = true;
  probing_ = false;
  bad_answers_ = 0;
}

}  // namespace lutsmith::cache
