#pragma once

#include <filesystem>
#include <vector>

#include "cli/options/spec_request.h"

namespace lutsmith::cli {

/// What one entry of a manifest asks for.
struct ManifestEntry {
  SpecText text;
  ScheduleOverride schedule;
};

/// Reads a manifest: a JSON array of objects, or one object a line, with the fields bits, group, n, k, m,
/// dtype, table, target, model and tp, each a value or (all but n and k) an array of values, and optionally
/// schedule, an object as `--json` prints it, and partitions, a number of 0 or more that recordings have and
/// on which no kernel depends:
///
///     [{"n": 4096, "k": 4096, "bits": [3, 4], "group": 64, "m": [1, 16], "target": "sm_90a"},
///      {"model": "llama3.1-8b", "tp": [1, 2]}]
///
/// What an entry leaves out comes from `defaults`. An error names the entry, counted from 0.
Result<std::vector<ManifestEntry>> read_manifest(const std::filesystem::path& path,
                                                 const ManifestEntry& defaults);

}  // namespace lutsmith::cli
