#include "cli/output/output.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <utility>

#include "cli/output/printable.h"

namespace lutsmith::cli {
namespace {

// A compiler's log has tabs, which are harmless.
std::string with_blanks(std::string_view line) {
  std::string result(line);
  std::ranges::replace(result, '\t', ' ');
  return result;
}

std::string indented(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    result += fmt::format("  {}\n", printable(with_blanks(text.substr(0, end))));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

/// While it lives a write of this thread to a pipe that no one reads fails, whatever SIGPIPE would do.
class WithoutBrokenPipeSignal {
 public:
  WithoutBrokenPipeSignal() {
    sigemptyset(&broken_pipe_);
    sigaddset(&broken_pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken_pipe_, &before_);
  }
  WithoutBrokenPipeSignal(const WithoutBrokenPipeSignal&) = delete;
  WithoutBrokenPipeSignal& operator=(const WithoutBrokenPipeSignal&) = delete;
  ~WithoutBrokenPipeSignal() {
    if (sigismember(&before_, SIGPIPE) == 0) {
      constexpr timespec kAtOnce{};
      sigtimedwait(&broken_pipe_, nullptr, &kAtOnce);  // the one that this thread's writes left pending
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t broken_pipe_{};
  sigset_t before_{};
};

// A terminal shared with a program that made it non-blocking may be full for a moment.
bool can_be_written_soon(int descriptor) {
  constexpr int kMilliseconds = 1000;
  pollfd ready{.fd = descriptor, .events = POLLOUT, .revents = 0};
  return poll(&ready, 1, kMilliseconds) == 1;
}

}  // namespace

void print_to_stderr(std::string_view text) {
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  const WithoutBrokenPipeSignal quiet;
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno != EINTR && (errno != EAGAIN || !can_be_written_soon(STDERR_FILENO))) {
      return;
    }
  }
}

void print_output(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::size_t terminal_width() {
  constexpr std::size_t kUsual = 80;
  if (isatty(STDERR_FILENO) != 1) return 0;
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsual;
  return size.ws_col;
}

void print_json(const Json& document) {
  // Names from other people's files need not be UTF-8; JSON has to be.
  print_output(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Json to_json(const Error& error) {
  return {{"code", to_string(error.code)}, {"message", error.message}, {"context", error.context}};
}

void print_error(const Error& error, bool json) {
  print_to_stderr(fmt::format("lutsmith: error: {}\n{}", printable(error.message), indented(error.context)));
  if (json) print_json({{"error", to_json(error)}});
}

void print_warning(const std::string& message) {
  // On a terminal a progress bar may stand on this line; it is drawn again on the next.
  const char* clean_line = isatty(STDERR_FILENO) == 1 ? "\r\x1b[K" : "";
  print_to_stderr(fmt::format("{}lutsmith: warning: {}\n", clean_line, printable(message)));
}

TextTable::TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

void TextTable::add_row(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) cell = printable(cell);
  rows_.push_back({std::exchange(headings_, {}), std::move(cells)});
}

void TextTable::add_heading(std::string_view text) { headings_.push_back(printable(text)); }

std::string TextTable::line(const std::vector<std::string>& cells,
                            const std::vector<std::size_t>& widths) const {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (widths[i] == 0) continue;
    if (!line.empty()) line += "  ";
    line += columns_[i].align == Align::left ? fmt::format("{:<{}}", cells[i], widths[i])
                                             : fmt::format("{:>{}}", cells[i], widths[i]);
  }
  return line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
}

void TextTable::print() const {
  if (rows_.empty()) return;
  std::vector<std::string> titles;
  std::vector<std::size_t> widths(columns_.size());
  for (const Row& row : rows_) {
    for (std::size_t i = 0; i < row.cells.size(); ++i) widths[i] = std::max(widths[i], row.cells[i].size());
  }
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    if (widths[i] > 0) widths[i] = std::max(widths[i], columns_[i].title.size());
  }
  std::string text = line(titles, widths);
  for (const Row& row : rows_) {
    for (const std::string& heading : row.headings) text += heading + "\n";
    text += line(row.cells, widths);
  }
  print_output(text);
}

std::string byte_count(double bytes) {
  constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string counted(std::uint64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

}  // namespace lutsmith::cli
