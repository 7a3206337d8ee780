#include "cache/stores/circuit_breaker.h"

#include <gtest/gtest.h>

namespace lutsmith::cache {
namespace {

using std::chrono::seconds;

class CircuitBreakerTest : public testing::Test {
 protected:
  std::chrono::steady_clock::time_point now_{seconds(1000)};
  CircuitBreaker breaker_{[this] { return now_; }};
};

TEST_F(CircuitBreakerTest, NoAnswerOpensItAtOnce) {
  EXPECT_TRUE(breaker_.allow());
  breaker_.report_no_answer();
  EXPECT_FALSE(breaker_.allow());
  now_ += seconds(29);
  EXPECT_FALSE(breaker_.allow());
}

TEST_F(CircuitBreakerTest, ThreeBadAnswersInARowOpenIt) {
  breaker_.report_bad_answer();
  breaker_.report_bad_answer();
  breaker_.report_good();
  breaker_.report_bad_answer();
  breaker_.report_bad_answer();
  EXPECT_TRUE(breaker_.allow()) << "not in a row";
  breaker_.report_bad_answer();
  EXPECT_FALSE(breaker_.allow());
}

TEST_F(CircuitBreakerTest, OneProbeDecidesAfterThePause) {
  breaker_.report_no_answer();
  now_ += seconds(31);
  EXPECT_TRUE(breaker_.allow());
  EXPECT_FALSE(breaker_.allow()) << "one at a time";
  breaker_.report_good();
  EXPECT_TRUE(breaker_.allow());
  EXPECT_TRUE(breaker_.allow());
}

TEST_F(CircuitBreakerTest, ProbeThatFailsDoublesThePauseUpToTenMinutes) {
  breaker_.report_no_answer();
  seconds pause{30};
  for (int i = 0; i < 8; ++i) {
    now_ += pause - seconds(1);
    EXPECT_FALSE(breaker_.allow()) << pause.count();
    now_ += seconds(1);
    EXPECT_TRUE(breaker_.allow()) << pause.count();
    breaker_.report_bad_answer();
    pause = std::min(2 * pause, seconds(600));
  }
  now_ += pause;
  EXPECT_TRUE(breaker_.allow());
  breaker_.report_good();
  breaker_.report_no_answer();
  now_ += seconds(30);
  EXPECT_TRUE(breaker_.allow()) << "after a good answer pauses begin anew";
}

TEST_F(CircuitBreakerTest, ReportsOfCallsUnderWayNeitherCloseNorProlongIt) {
  breaker_.report_no_answer();
  breaker_.report_good();
  EXPECT_FALSE(breaker_.allow());
  now_ += seconds(15);
  breaker_.report_no_answer();
  now_ += seconds(15);
  EXPECT_TRUE(breaker_.allow());
}

}  // namespace
}  // namespace lutsmith::cache
