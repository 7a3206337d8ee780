#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "choices/document.h"
#include "must.h"

namespace lutsmith::test {

inline choices::Gpu example_gpu() {
  return {.name = "Example GPU 80GB", .multiprocessors = 132, .target = must(Target::parse("sm_90a"))};
}

inline KernelSpec example_spec(std::int64_t n = 4096, std::int64_t m = 1) {
  return {.format = {.bits = 4, .group = 128, .n = n, .k = 4096}, .m = m, .target = example_gpu().target};
}

/// A choice of 264 partitions under four warps, against a default of eight.
inline choices::Entry example_entry(std::int64_t n = 4096,
                                    const std::string& measured = "2026-01-02T03:04:05Z") {
  choices::Entry entry;
  entry.spec = example_spec(n);
  entry.schedules = {FewTokensSchedule{.tile_tokens = 1, .dependent_launch = true},
                     FewTokensSchedule{.tile_tokens = 1, .warps = 4, .dependent_launch = true}};
  entry.choice = {.schedule = 1, .partitions = 264, .microseconds = 4.8};
  entry.standard = {.schedule = 0, .partitions = 132, .microseconds = 5.022};
  entry.noise = 0.004;
  entry.floor_microseconds = 3.2;
  entry.floor_dependent_microseconds = 3.0;
  entry.measurements = {{1, 264, 4.8, 0.003, 25}, {0, 132, 5.022, 0.004, 25}};
  entry.failures = {{0, "spills 32 bytes"}};
  entry.conditions = {
      .measured = measured, .driver = "13.0", .compiler = "NVRTC 13.0.88", .library = "0.1.0"};
  entry.conditions.clock_mhz = 1980;
  entry.conditions.other_processes = 0;
  return entry;
}

inline choices::Document example_document() {
  choices::Document document(example_gpu());
  document.put(example_entry(4096));
  document.put(example_entry(6144));
  return document;
}

}  // namespace lutsmith::test
