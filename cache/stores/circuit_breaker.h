#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <utility>

namespace lutsmith::cache {

/// Decides whether a server is asked at all, so that one that is dead, slow or lying costs its users one wait
/// and not one for each request:
///
///     closed --refused, timed out or cut off, or three bad answers in a row--> open
///     open   --after a pause of 30 s--> one call is let through as a probe
///     probe  --good--> closed
///     probe  --bad---> open, for twice as long as before, 10 minutes at most
///
/// Thread-safe.
class CircuitBreaker {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Clock = std::function<Time()>;

  explicit CircuitBreaker(Clock clock = std::chrono::steady_clock::now) : clock_(std::move(clock)) {}

  /// One call of the server, if it is allowed now: reports once how it went. One that is given up without a
  /// report, by an exception, counts as no answer.
  class Call {
   public:
    explicit Call(CircuitBreaker& breaker) : breaker_(breaker), open_(breaker.allow()) {}
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    ~Call() { report(&CircuitBreaker::report_no_answer); }

    explicit operator bool() const { return open_; }
    void good() { report(&CircuitBreaker::report_good); }
    void bad_answer() { report(&CircuitBreaker::report_bad_answer); }
    void no_answer() { report(&CircuitBreaker::report_no_answer); }

   private:
    void report(void (CircuitBreaker::*how)()) {
      if (std::exchange(open_, false)) (breaker_.*how)();
    }
    CircuitBreaker& breaker_;
    bool open_;
  };

  /// Whether to call now. Each yes is followed by one of the three reports.
  bool allow();

  /// The server answered as it should.
  void report_good();
  /// It answered, but with an error or with wrong bytes.
  void report_bad_answer();
  /// It did not answer.
  void report_no_answer();

 private:
  void open();  // with the mutex held

  std::mutex mutex_;
  Clock clock_;
  int bad_answers_ = 0;
  bool is_open_ = false;
  bool probing_ = false;
  std::chrono::seconds pause_{0};  ///< of the last time it opened; 0: it was well since
  Time until_;
};

}  // namespace lutsmith::cache
