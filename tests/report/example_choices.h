#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "choices/document.h"

namespace lutsmith::test {

/// What a made-up document has.
struct ExampleChoices {
  std::vector<std::string> models = {"llama3.1-8b"};
  std::vector<int> bits = {4};
  std::vector<std::int64_t> tokens = {1, 8, 16, 32};
  unsigned seed = 1;
  std::string measured = "2026-01-02T03:04:05Z";
};

/// A document of tuned choices that nobody measured: real schedules, and for times the cost model's with an
/// error for each schedule and noise. Its GPU is called so that nobody takes it for a measurement. The same
/// arguments give the same document; another seed moves times by the noise only.
choices::Document example_choices(const ExampleChoices& wanted);

}  // namespace lutsmith::test
