#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>

namespace lutsmith::cli {

/// Progress on standard error. On a terminal one line that is redrawn: a bar with count, percent, time left
/// and the piece that was done last, cut to the terminal's width. Elsewhere a plain line for the first and
/// the last piece, and between them whenever a tenth more is done or five seconds went by. Thread-safe.
class Progress {
 public:
  explicit Progress(std::size_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Wipes the bar, so that what follows starts on a clean line.
  ~Progress();

  /// One more piece is done; `text` tells which and how it went. Nothing is written to what is no terminal
  /// where it is empty; what would steer a terminal is shown escaped.
  void advance(const std::string& text);
  /// What is being done on a piece that is not done yet; only shown on a terminal.
  void working_on(const std::string& text);

 private:
  void draw(const std::string& line) const;
  bool line_is_due() const;

  const std::size_t total_;
  const bool terminal_;
  const std::chrono::steady_clock::time_point start_;
  std::mutex mutex_;
  std::size_t done_ = 0;
  std::size_t told_ = 0;  ///< how many were done at the last plain line
  std::chrono::steady_clock::time_point told_at_;
};

/// 75 s -> "1 min 15 s".
std::string duration(std::chrono::duration<double> time);

}  // namespace lutsmith::cli
