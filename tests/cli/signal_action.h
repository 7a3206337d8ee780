#pragma once

#include <csignal>

namespace lutsmith::tests {

/// While it lives, programs that are started find a signal ignored (SIG_IGN) or not (SIG_DFL).
class SignalAction {
 public:
  SignalAction(int signal, void (*action)(int)) : signal_(signal), before_(std::signal(signal, action)) {}
  SignalAction(const SignalAction&) = delete;
  SignalAction& operator=(const SignalAction&) = delete;
  ~SignalAction() { std::signal(signal_, before_); }

 private:
  int signal_;
  void (*before_)(int);
};

}  // namespace lutsmith::tests
