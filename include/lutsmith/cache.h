#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "lutsmith/export.h"

namespace lutsmith {

/// What the cache directory may grow to before the kernels used longest ago are removed. 0 keeps nothing.
struct CacheLimits {
  std::uint64_t bytes = std::uint64_t{4} << 30;
  std::uint64_t entries = 100'000;

  friend bool operator==(const CacheLimits&, const CacheLimits&) = default;
};

/// A server that many machines share kernels through, by HTTP GET, HEAD and PUT of `<url>/ac/<key>`: the
/// layout of bazel-remote (run with --disable_http_ac_validation), which nginx with WebDAV serves too.
/// Whoever can write to it can make others run his kernels. It is never waited for without need: one that is
/// dead, slow or lies is left alone for a while.
struct RemoteCache {
  std::string url = {};                              ///< "https://cache:8080/lutsmith"; empty: none
  bool read_only = false;                            ///< never uploads
  std::string bearer_token = {};                     ///< sent as "Authorization: Bearer"; empty: none
  std::filesystem::path client_certificate = {};     ///< PEM, for mutual TLS; empty: none
  std::filesystem::path client_key = {};             ///< PEM; empty: in client_certificate
  std::filesystem::path certificate_authority = {};  ///< PEM, instead of the system's
  std::chrono::milliseconds connect_timeout{100};    ///< name look-up and TLS handshake included
  std::chrono::milliseconds transfer_timeout{10'000};
};

/// What a service and its cache did since it was opened.
struct ServiceStatistics {
  std::uint64_t memory_hits = 0;  ///< answered without looking anywhere
  std::uint64_t disk_hits = 0;    ///< found in the cache directory
  std::uint64_t system_hits = 0;  ///< found in a directory that is only read
  std::uint64_t remote_hits = 0;  ///< found on the server
  std::uint64_t compiles = 0;     ///< that succeeded
  std::uint64_t compile_failures = 0;
  std::uint64_t refusals = 0;         ///< not in the cache where compiling is off
  std::uint64_t waits = 0;            ///< for another process that was making the same kernel
  std::uint64_t repairs = 0;          ///< damaged or unusable entries that were made anew
  std::uint64_t entries_removed = 0;  ///< to keep the limits
  std::uint64_t disk_bytes_read = 0;
  std::uint64_t disk_bytes_written = 0;
  std::uint64_t remote_bytes_received = 0;
  std::uint64_t remote_bytes_sent = 0;
  std::uint64_t remote_failures = 0;
  std::uint64_t remote_skipped = 0;  ///< calls left out while the server was left alone
  double compile_seconds = 0;        ///< spent in the compiler, summed over threads
  double wait_seconds = 0;           ///< spent in `waits`
};

/// The counters in Prometheus' text format (version 0.0.4), each named "lutsmith_..." and documented in it.
LUTSMITH_API std::string to_prometheus(const ServiceStatistics& statistics);

}  // namespace lutsmith
