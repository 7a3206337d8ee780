#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

/// What libFuzzer calls with every input, and the tests with every input of the corpus. Returns 0, or -1 for
/// an input that is of no use and must not be kept.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace lutsmith::fuzz {

/// Ends the program where something does not hold that holds whatever the input is: to the fuzzer, a finding.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace lutsmith::fuzz
