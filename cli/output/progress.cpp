#include "cli/output/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/output/output.h"
#include "cli/output/printable.h"

namespace lutsmith::cli {
namespace {

constexpr std::size_t kBarWidth = 30;
constexpr std::size_t kPlainLines = 10;
constexpr std::chrono::seconds kLongestSilence{5};
constexpr const char* kEraseLine = "\r\x1b[K";

// The first `width` characters; never a part of one that is several bytes in UTF-8.
std::string cut(const std::string& text, std::size_t width) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins_character = (static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U;
    if (begins_character && ++characters > width) return text.substr(0, i);
  }
  return text;
}

}  // namespace

Progress::Progress(std::size_t total)
    : total_(total),
      terminal_(terminal_width() > 0),
      start_(std::chrono::steady_clock::now()),
      told_at_(start_) {
  if (terminal_ && total_ > 0) draw({});
}

Progress::~Progress() {
  if (terminal_) print_to_stderr(kEraseLine);
}

void Progress::advance(const std::string& text) {
  const std::string line = printable(text);
  const std::scoped_lock lock(mutex_);
  ++done_;
  if (terminal_) {
    draw(line);
  } else if (!line.empty() && line_is_due()) {
    print_to_stderr(fmt::format("[{}/{}] {}\n", done_, total_, line));
    told_ = done_;
    told_at_ = std::chrono::steady_clock::now();
  }
}

void Progress::working_on(const std::string& text) {
  if (!terminal_) return;
  const std::scoped_lock lock(mutex_);
  draw(printable(text));
}

bool Progress::line_is_due() const {
  return done_ == 1 || done_ == total_ || (done_ - told_) * kPlainLines >= total_ ||
         std::chrono::steady_clock::now() - told_at_ >= kLongestSilence;
}

void Progress::draw(const std::string& line) const {
  const std::size_t filled = kBarWidth * std::min(done_, total_) / total_;
  std::string left = "estimating time left";
  if (done_ > 0) {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    left = duration(elapsed / static_cast<double>(done_) * static_cast<double>(total_ - done_)) + " left";
  }
  const std::string bar = fmt::format("[{:=<{}}{:{}}] {}/{}  {} %  {}  {}", "", filled, "",
                                      kBarWidth - filled, done_, total_, 100 * done_ / total_, left, line);
  // Asked each time, since terminals are resized. The last column stays free: some wrap when it is written.
  print_to_stderr(kEraseLine + cut(bar, std::max<std::size_t>(terminal_width(), 2) - 1));
}

std::string duration(std::chrono::duration<double> time) {
  if (time.count() < 10) return fmt::format("{:.1f} s", time.count());
  const auto seconds = std::llround(time.count());
  if (seconds < 60) return fmt::format("{} s", seconds);
  return fmt::format("{} min {} s", seconds / 60, seconds % 60);
}

}  // namespace lutsmith::cli
