#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace lutsmith::tools {
namespace {

constexpr std::size_t kBarWidth = 30;
constexpr const char* kEraseLine = "\r\x1b[K";

}  // namespace

Progress::Progress(std::size_t total)
    : total_(total), terminal_(isatty(STDERR_FILENO) == 1), start_(std::chrono::steady_clock::now()) {
  if (terminal_ && total_ > 0) draw();
}

Progress::~Progress() {
  if (terminal_) fmt::print(stderr, "{}", kEraseLine);
}

void Progress::advance(const std::string& line) {
  const std::scoped_lock lock(mutex_);
  ++done_;
  if (terminal_) {
    draw();
  } else if (!line.empty()) {
    fmt::print(stderr, "[{}/{}] {}\n", done_, total_, line);
  }
}

void Progress::draw() const {
  const std::size_t filled = kBarWidth * done_ / total_;
  std::string left = "estimating time left";
  if (done_ > 0) {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    left = duration(elapsed / static_cast<double>(done_) * static_cast<double>(total_ - done_)) + " left";
  }
  fmt::print(stderr, "{}[{:=<{}}{:{}}] {}/{}  {} %  {}", kEraseLine, "", filled, "", kBarWidth - filled,
             done_, total_, 100 * done_ / total_, left);
  std::fflush(stderr);
}

std::string duration(std::chrono::duration<double> time) {
  if (time.count() < 10) return fmt::format("{:.1f} s", time.count());
  const auto seconds = std::llround(time.count());
  if (seconds < 60) return fmt::format("{} s", seconds);
  return fmt::format("{} min {} s", seconds / 60, seconds % 60);
}

}  // namespace lutsmith::tools
