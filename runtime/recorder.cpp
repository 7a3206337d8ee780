#include "runtime/recorder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/field_json.h"

namespace lutsmith {
namespace {

using Json = nlohmann::ordered_json;

std::string line_of(const Request& request) {
  Json line = spec_json<Json>(request.spec);
  if (request.choice) {
    line["schedule"] = schedule_json<Json>(request.choice->schedule);
    if (request.choice->partitions > 0) line["partitions"] = request.choice->partitions;
  }
  return line.dump();
}

}  // namespace

Result<std::unique_ptr<Recorder>> Recorder::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe must not wait for a reader. Reading one back would wait for ourselves.
  core::Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0644));
  if (!file.valid()) return std::unexpected(core::system_error(errno, "record requests in", path));
  struct stat status{};
  if (fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return std::unexpected(Error{
        ErrorCode::invalid_argument,
        fmt::format("cannot record requests in {}: it is not a regular file; name one", path.native()), ""});
  }
  std::unordered_set<std::string> known;
  std::ifstream lines(path);
  for (std::string line; std::getline(lines, line);) known.insert(std::move(line));
  return std::unique_ptr<Recorder>(new Recorder(path, std::move(file), std::move(known)));
}

Result<void> Recorder::record(const Request& request) {
  std::string line = line_of(request);
  const std::lock_guard lock(mutex_);
  if (known_.contains(line)) return {};
  // In one piece: lines of other processes go before or after it, never into it.
  const std::string text = (torn_ ? "\n" : "") + line + "\n";
  ssize_t written = -1;
  do {
    written = write(file_.number(), text.data(), text.size());
  } while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(text.size())) {
    torn_ = false;
    known_.insert(std::move(line));
    return {};
  }
  torn_ = torn_ || written > 0;
  return std::unexpected(core::system_error(written < 0 ? errno : ENOSPC, "record requests in", path_));
}

}  // namespace lutsmith
