#include <fcntl.h>
#include <fmt/format.h>
#include <llvm/Support/Endian.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include "checkpoint/file_error.h"
#include "checkpoint/foreign_format.h"
#include "checkpoint/safetensors_format.h"
#include "checkpoint/safetensors_header.h"
#include "core/allocate.h"
#include "core/result.h"
#include "lutsmith/float16.h"
#include "lutsmith/safetensors.h"

namespace lutsmith {

namespace fs = std::filesystem;

/// Closed with the last copy of the file.
class OpenFile {
 public:
  explicit OpenFile(int descriptor) : descriptor_(descriptor) {}
  OpenFile(OpenFile&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  OpenFile& operator=(OpenFile&&) = delete;
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

struct SafetensorsFile::Contents {
  fs::path path;
  OpenFile file;
  std::uint64_t file_bytes = 0;  // when it was opened
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::uint64_t> positions;  // of the tensors in the file
  std::map<std::string, std::string> metadata;
};

namespace {

using checkpoint::file_error;

using Reason = std::string;

std::unexpected<Error> system_failure(const fs::path& path, int error) {
  const ErrorCode code = error == ENOENT ? ErrorCode::not_found : ErrorCode::io_error;
  return file_error(code, path, error == ENOENT ? "no such file" : std::generic_category().message(error));
}

std::unexpected<Error> got_shorter(const fs::path& path, std::uint64_t before, int descriptor) {
  struct stat now{};
  const std::string size = ::fstat(descriptor, &now) == 0 ? fmt::to_string(now.st_size) : "fewer";
  return file_error(
      ErrorCode::corrupt_data, path,
      fmt::format("the file got shorter while it was read: {} bytes before, {} now; try again when "
                  "nothing writes to it any more",
                  before, size));
}

struct OpenedFile {
  OpenFile file;
  std::uint64_t bytes = 0;
};

Result<OpenedFile> open_file(const fs::path& path) {
  // Looked at before it is opened: opening a pipe or a device can block, or do something.
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return system_failure(path, errno);
  if (S_ISDIR(status.st_mode)) {
    return file_error(ErrorCode::invalid_argument, path, "is a directory, not a regular file");
  }
  if (!S_ISREG(status.st_mode)) return file_error(ErrorCode::invalid_argument, path, "is not a regular file");
  OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.descriptor() < 0 || ::fstat(file.descriptor(), &status) != 0) return system_failure(path, errno);
  return OpenedFile{std::move(file), static_cast<std::uint64_t>(status.st_size)};
}

/// Not by a memory map: where another process makes the file shorter, or a network file system loses it,
/// reading a map ends the program by a signal, and a library cannot catch that for its program.
Result<void> read_at(const fs::path& path, const OpenFile& file, std::uint64_t file_bytes,
                     std::uint64_t position, std::span<std::byte> into) {
  constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // Linux reads no more than 2 GiB in a call
  while (!into.empty()) {
    const ssize_t read = ::pread(file.descriptor(), into.data(), std::min(into.size(), kMostAtOnce),
                                 static_cast<off_t>(position));
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return system_failure(path, errno);
    if (read == 0) return got_shorter(path, file_bytes, file.descriptor());
    into = into.subspan(static_cast<std::size_t>(read));
    position += static_cast<std::uint64_t>(read);
  }
  return {};
}

/// The first bytes of a file that is not as it should be tell what it is instead.
Result<std::string> first_bytes(const fs::path& path, const OpenedFile& opened) {
  std::string bytes(std::min<std::uint64_t>(opened.bytes, checkpoint::kBytesToRecognize), '\0');
  auto read = read_at(path, opened.file, opened.bytes, 0, std::as_writable_bytes(std::span(bytes)));
  if (!read) return std::unexpected(read.error());
  return bytes;
}

std::expected<std::uint64_t, Reason> header_length(std::string_view first_bytes, std::uint64_t file_bytes) {
  if (file_bytes < checkpoint::kLengthBytes) {
    return std::unexpected(fmt::format("file has {} bytes, fewer than the {} of its header's length",
                                       file_bytes, checkpoint::kLengthBytes));
  }
  const std::uint64_t length = llvm::support::endian::read64le(first_bytes.data());
  const std::uint64_t follow = file_bytes - checkpoint::kLengthBytes;
  if (length > checkpoint::kMaxHeaderBytes) {
    return std::unexpected(
        fmt::format("header claims {} bytes; allowed: up to {}", length, checkpoint::kMaxHeaderBytes));
  }
  if (length > follow) {
    return std::unexpected(
        fmt::format("header claims {} bytes, but only {} follow; the file may be cut off", length, follow));
  }
  return length;
}

/// Whether what the header states of a tensor is true.
std::expected<void, Reason> check_entry(const checkpoint::HeaderEntry& entry, std::uint64_t data_bytes) {
  const auto begin = static_cast<std::uint64_t>(entry.offsets[0]);
  const auto end = static_cast<std::uint64_t>(entry.offsets[1]);
  const auto bytes = checkpoint::tensor_bytes(entry.dtype, entry.shape);
  if (!bytes) return std::unexpected(bytes.error());
  if (begin > end) {
    return std::unexpected(fmt::format("data_offsets [{}, {}] run backwards", begin, end));
  }
  if (end > data_bytes) {
    return std::unexpected(fmt::format(
        "data_offsets [{}, {}] pass the {} bytes of data; the file may be cut off", begin, end, data_bytes));
  }
  if (end - begin != *bytes) {
    return std::unexpected(fmt::format("data_offsets [{}, {}] span {} bytes, dtype and shape take {}", begin,
                                       end, end - begin, *bytes));
  }
  return {};
}

/// Every byte of the data must belong to exactly one tensor.
std::expected<void, Reason> check_coverage(const std::map<std::string, checkpoint::HeaderEntry>& entries,
                                           std::uint64_t data_bytes) {
  std::vector<std::pair<std::span<const std::int64_t>, std::string_view>> extents;
  extents.reserve(entries.size());
  for (const auto& [name, entry] : entries) extents.emplace_back(entry.offsets, name);
  std::ranges::sort(extents, [](const auto& left, const auto& right) {
    return std::ranges::lexicographical_compare(left.first, right.first);
  });
  std::uint64_t covered = 0;
  for (const auto& [offsets, name] : extents) {
    const auto begin = static_cast<std::uint64_t>(offsets[0]);
    if (begin != covered) {
      return std::unexpected(fmt::format(
          "tensor {} begins at byte {} of the data, {} byte {}", checkpoint::shown_name(name), begin,
          begin < covered ? "overlapping the one before, which ends at" : "leaving a gap after", covered));
    }
    covered = static_cast<std::uint64_t>(offsets[1]);
  }
  if (covered == data_bytes) return {};
  return std::unexpected(fmt::format("{} bytes of data belong to no tensor", data_bytes - covered));
}

std::expected<void, Reason> check_entries(const std::map<std::string, checkpoint::HeaderEntry>& entries,
                                          std::uint64_t data_bytes) {
  for (const auto& [name, entry] : entries) {
    if (const auto checked = check_entry(entry, data_bytes); !checked) {
      return std::unexpected(fmt::format("tensor {}: {}", checkpoint::shown_name(name), checked.error()));
    }
  }
  return check_coverage(entries, data_bytes);
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::shared_ptr<const Contents> contents) : contents_(std::move(contents)) {}

Result<SafetensorsFile> SafetensorsFile::open(const fs::path& path) try {
  auto opened = open_file(path);
  if (!opened) return std::unexpected(opened.error());
  const auto beginning = first_bytes(path, *opened);
  if (!beginning) return std::unexpected(beginning.error());
  const auto corrupt = [&](const Reason& reason) {
    const auto other = checkpoint::recognize_format(*beginning);
    return file_error(ErrorCode::corrupt_data, path, other ? *other : reason);
  };
  const auto length = header_length(*beginning, opened->bytes);
  if (!length) return corrupt(length.error());
  std::string text(*length, '\0');
  const auto read = read_at(path, opened->file, opened->bytes, checkpoint::kLengthBytes,
                            std::as_writable_bytes(std::span(text)));
  if (!read) return std::unexpected(read.error());
  auto header = checkpoint::parse_safetensors_header(text);
  if (!header) return corrupt(header.error());
  const std::uint64_t data = checkpoint::kLengthBytes + *length;
  if (const auto checked = check_entries(header->tensors, opened->bytes - data); !checked) {
    return file_error(ErrorCode::corrupt_data, path, checked.error());
  }
  auto contents = std::make_shared<Contents>(
      Contents{path, std::move(opened->file), opened->bytes, {}, {}, std::move(header->metadata)});
  for (auto& [name, entry] : header->tensors) {
    const auto begin = static_cast<std::uint64_t>(entry.offsets[0]);
    const auto end = static_cast<std::uint64_t>(entry.offsets[1]);
    contents->positions.emplace(name, data + begin);
    contents->tensors.emplace(name, TensorInfo{std::move(entry.dtype), std::move(entry.shape), end - begin});
  }
  return SafetensorsFile(std::move(contents));
} catch (const std::bad_alloc&) {
  return file_error(ErrorCode::out_of_memory, path, "no memory for its header");
}

const fs::path& SafetensorsFile::path() const { return contents_->path; }

const std::map<std::string, TensorInfo>& SafetensorsFile::tensors() const { return contents_->tensors; }

const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return contents_->metadata; }

Result<std::vector<std::byte>> SafetensorsFile::read(const std::string& name) const {
  const auto tensor = contents_->tensors.find(name);
  const std::uint64_t size = tensor == contents_->tensors.end() ? 0 : tensor->second.bytes;
  auto bytes = allocate<std::byte>(size, "tensor " + checkpoint::shown_name(name));
  if (!bytes) return bytes;
  if (const auto done = read(name, 0, *bytes); !done) return std::unexpected(done.error());
  return bytes;
}

Result<void> SafetensorsFile::read(const std::string& name, std::uint64_t first_byte,
                                   std::span<std::byte> into) const {
  const auto tensor = contents_->tensors.find(name);
  if (tensor == contents_->tensors.end()) {
    return file_error(ErrorCode::invalid_argument, contents_->path,
                      fmt::format("holds no tensor {}", checkpoint::shown_name(name)));
  }
  const std::uint64_t bytes = tensor->second.bytes;
  if (first_byte > bytes || into.size() > bytes - first_byte) {
    return file_error(ErrorCode::invalid_argument, contents_->path,
                      fmt::format("tensor {}: {} bytes from byte {} on are asked for; it has {}",
                                  checkpoint::shown_name(name), into.size(), first_byte, bytes));
  }
  return read_at(contents_->path, contents_->file, contents_->file_bytes,
                 contents_->positions.at(name) + first_byte, into);
}

Result<std::vector<float>> to_floats(std::string_view dtype, std::span<const std::byte> bytes) {
  if (dtype != "F64" && dtype != "F32" && dtype != "F16" && dtype != "BF16") {
    return refuse(fmt::format("dtype: {} cannot be read as floats; allowed: F64, F32, F16, BF16",
                              checkpoint::shown_name(dtype)));
  }
  const auto element = static_cast<std::size_t>(*checkpoint::element_bits(dtype)) / 8;
  if (bytes.size() % element != 0) {
    return refuse(
        fmt::format("bytes: {} given, not a multiple of the {} of {}", bytes.size(), element, dtype));
  }
  auto values = allocate<float>(bytes.size() / element, "floats");
  if (!values || values->empty()) return values;
  if (dtype == "F32") {
    std::memcpy(values->data(), bytes.data(), bytes.size());
    return values;
  }
  if (dtype == "F64") {
    for (std::size_t i = 0; i < values->size(); ++i) {
      double value = 0;
      std::memcpy(&value, bytes.data() + i * element, element);
      (*values)[i] = static_cast<float>(value);
    }
    return values;
  }
  const DataType type = dtype == "F16" ? DataType::f16 : DataType::bf16;
  for (std::size_t i = 0; i < values->size(); ++i) {
    (*values)[i] = from_bits(llvm::support::endian::read16le(bytes.data() + i * element), type);
  }
  return values;
}

}  // namespace lutsmith
