#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>

namespace lutsmith::tools {

/// Progress on standard error: a bar with count, percent and time left on a terminal, else one plain
/// line per finished piece. Thread-safe.
class Progress {
 public:
  explicit Progress(std::size_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Wipes the bar, so that what follows starts on a clean line.
  ~Progress();

  /// One more piece is done; `line` tells which and how it went. Nothing is written to what is no terminal
  /// where it is empty.
  void advance(const std::string& line);

 private:
  void draw() const;

  const std::size_t total_;
  const bool terminal_;
  const std::chrono::steady_clock::time_point start_;
  std::mutex mutex_;
  std::size_t done_ = 0;
};

/// 75 s -> "1 min 15 s".
std::string duration(std::chrono::duration<double> time);

}  // namespace lutsmith::tools
