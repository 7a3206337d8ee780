#include <fmt/format.h>

#include <array>
#include <iterator>

#include "lutsmith/cache.h"

namespace lutsmith {
namespace {

/// One sample of a counter; samples of one name stand together.
struct Sample {
  const char* name;
  const char* help;
  const char* labels;  ///< "" or "{name=\"value\"}"
  std::uint64_t ServiceStatistics::* count;
};

constexpr const char* kHits = "Kernels found without compiling, by where they were found.";
constexpr const char* kDiskBytes = "Bytes of cache entries read from and written to directories.";
constexpr const char* kRemoteBytes = "Bytes of cache entries received from and sent to the server.";

constexpr std::array kSamples{
    Sample{"hits", kHits, R"({tier="memory"})", &ServiceStatistics::memory_hits},
    Sample{"hits", kHits, R"({tier="disk"})", &ServiceStatistics::disk_hits},
    Sample{"hits", kHits, R"({tier="system"})", &ServiceStatistics::system_hits},
    Sample{"hits", kHits, R"({tier="remote"})", &ServiceStatistics::remote_hits},
    Sample{"compiles", "Kernels compiled.", "", &ServiceStatistics::compiles},
    Sample{"compile_failures", "Compiles that failed.", "", &ServiceStatistics::compile_failures},
    Sample{"refusals", "Requests refused because the kernel was not warmed and compiling is off.", "",
           &ServiceStatistics::refusals},
    Sample{"waits", "Requests that waited for another process to make the same kernel.", "",
           &ServiceStatistics::waits},
    Sample{"repairs", "Damaged or unusable cache entries that were made anew.", "",
           &ServiceStatistics::repairs},
    Sample{"removed_entries", "Cache entries removed to keep the directory within its limits.", "",
           &ServiceStatistics::entries_removed},
    Sample{"disk_bytes", kDiskBytes, R"({direction="read"})", &ServiceStatistics::disk_bytes_read},
    Sample{"disk_bytes", kDiskBytes, R"({direction="written"})", &ServiceStatistics::disk_bytes_written},
    Sample{"remote_bytes", kRemoteBytes, R"({direction="received"})",
           &ServiceStatistics::remote_bytes_received},
    Sample{"remote_bytes", kRemoteBytes, R"({direction="sent"})", &ServiceStatistics::remote_bytes_sent},
    Sample{"remote_failures", "Calls of the server that failed.", "", &ServiceStatistics::remote_failures},
    Sample{"remote_skipped", "Calls left out while the server was left alone after failures.", "",
           &ServiceStatistics::remote_skipped},
};

void append_head(std::string& text, std::string_view name, std::string_view help) {
  fmt::format_to(std::back_inserter(text),
                 "# HELP lutsmith_{0}_total {1}\n# TYPE lutsmith_{0}_total counter\n", name, help);
}

void append_seconds(std::string& text, std::string_view name, std::string_view help, double seconds) {
  append_head(text, name, help);
  fmt::format_to(std::back_inserter(text), "lutsmith_{}_total {}\n", name, seconds);
}

}  // namespace

std::string to_prometheus(const ServiceStatistics& statistics) {
  std::string text;
  std::string_view previous;
  for (const Sample& sample : kSamples) {
    if (sample.name != previous) append_head(text, sample.name, sample.help);
    previous = sample.name;
    fmt::format_to(std::back_inserter(text), "lutsmith_{}_total{} {}\n", sample.name, sample.labels,
                   statistics.*sample.count);
  }
  append_seconds(text, "compile_seconds", "Seconds spent in the compiler, summed over threads.",
                 statistics.compile_seconds);
  append_seconds(text, "wait_seconds", "Seconds spent waiting for other processes.", statistics.wait_seconds);
  return text;
}

}  // namespace lutsmith
