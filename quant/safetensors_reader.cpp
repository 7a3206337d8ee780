#include <fmt/format.h>
#include <llvm/Support/Endian.h>
#include <llvm/Support/MemoryBuffer.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include "lutsmith/quantization.h"
#include "lutsmith/safetensors.h"
#include "quant/safetensors_format.h"
#include "quant/safetensors_header.h"
#include "quant/validation.h"

namespace lutsmith {

struct SafetensorsFile::Contents {
  std::unique_ptr<llvm::MemoryBuffer> buffer;
  std::map<std::string, TensorView> tensors;
  std::map<std::string, std::string> metadata;
};

namespace {

namespace fs = std::filesystem;
using Reason = std::string;

std::unexpected<Error> failure(ErrorCode code, const fs::path& path, std::string_view reason) {
  return std::unexpected(Error{code, fmt::format("{}: {}", path.string(), reason), {}});
}

Result<std::unique_ptr<llvm::MemoryBuffer>> map_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return failure(ErrorCode::not_found, path, "no such file");
  if (error) return failure(ErrorCode::io_error, path, error.message());
  // A pipe would block, a directory has no bytes.
  if (!fs::is_regular_file(status))
    return failure(ErrorCode::invalid_argument, path, "is not a regular file");
  auto buffer =
      llvm::MemoryBuffer::getFile(path.native(), /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer) return failure(ErrorCode::io_error, path, buffer.getError().message());
  return std::move(*buffer);
}

/// The header's text and the bytes after it.
struct Sections {
  std::string_view header;
  std::span<const std::byte> data;
};

std::expected<Sections, Reason> split(std::string_view file) {
  if (file.size() < quant::kLengthBytes) {
    return std::unexpected(fmt::format("file has {} bytes, fewer than the {} of its header's length",
                                       file.size(), quant::kLengthBytes));
  }
  const std::uint64_t length = llvm::support::endian::read64le(file.data());
  file.remove_prefix(quant::kLengthBytes);
  if (length > quant::kMaxHeaderBytes) {
    return std::unexpected(
        fmt::format("header claims {} bytes; allowed: up to {}", length, quant::kMaxHeaderBytes));
  }
  if (length > file.size()) {
    return std::unexpected(fmt::format("header claims {} bytes, but only {} follow; the file may be cut off",
                                       length, file.size()));
  }
  const std::string_view data = file.substr(length);
  return Sections{file.substr(0, length), std::as_bytes(std::span(data))};
}

/// The bytes of one tensor, if what the header states of it is true.
std::expected<std::span<const std::byte>, Reason> tensor_data(const quant::HeaderEntry& entry,
                                                              std::span<const std::byte> data) {
  const auto begin = static_cast<std::uint64_t>(entry.offsets[0]);
  const auto end = static_cast<std::uint64_t>(entry.offsets[1]);
  const auto bytes = quant::tensor_bytes(entry.dtype, entry.shape);
  if (!bytes) return std::unexpected(bytes.error());
  if (begin > end) {
    return std::unexpected(fmt::format("data_offsets [{}, {}] run backwards", begin, end));
  }
  if (end > data.size()) {
    return std::unexpected(fmt::format(
        "data_offsets [{}, {}] pass the {} bytes of data; the file may be cut off", begin, end, data.size()));
  }
  if (end - begin != *bytes) {
    return std::unexpected(fmt::format("data_offsets [{}, {}] span {} bytes, dtype and shape take {}", begin,
                                       end, end - begin, *bytes));
  }
  return data.subspan(begin, *bytes);
}

/// Every byte of the data must belong to exactly one tensor.
std::expected<void, Reason> check_coverage(const std::map<std::string, quant::HeaderEntry>& entries,
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
          "tensor {} begins at byte {} of the data, {} byte {}", quant::shown_name(name), begin,
          begin < covered ? "overlapping the one before, which ends at" : "leaving a gap after", covered));
    }
    covered = static_cast<std::uint64_t>(offsets[1]);
  }
  if (covered == data_bytes) return {};
  return std::unexpected(fmt::format("{} bytes of data belong to no tensor", data_bytes - covered));
}

std::expected<std::map<std::string, TensorView>, Reason> locate(
    const std::map<std::string, quant::HeaderEntry>& entries, std::span<const std::byte> data) {
  std::map<std::string, TensorView> tensors;
  for (const auto& [name, entry] : entries) {
    const auto bytes = tensor_data(entry, data);
    if (!bytes) {
      return std::unexpected(fmt::format("tensor {}: {}", quant::shown_name(name), bytes.error()));
    }
    tensors.emplace(name, TensorView{entry.dtype, entry.shape, *bytes});
  }
  if (auto checked = check_coverage(entries, data.size()); !checked) return std::unexpected(checked.error());
  return tensors;
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::shared_ptr<const Contents> contents) : contents_(std::move(contents)) {}

Result<SafetensorsFile> SafetensorsFile::open(const fs::path& path) try {
  auto buffer = map_file(path);
  if (!buffer) return std::unexpected(buffer.error());
  const auto corrupt = [&](const Reason& reason) { return failure(ErrorCode::corrupt_data, path, reason); };
  const auto sections = split((*buffer)->getBuffer());
  if (!sections) return corrupt(sections.error());
  auto header = quant::parse_safetensors_header(sections->header);
  if (!header) return corrupt(header.error());
  auto tensors = locate(header->tensors, sections->data);
  if (!tensors) return corrupt(tensors.error());
  return SafetensorsFile(std::make_shared<const Contents>(
      Contents{std::move(*buffer), std::move(*tensors), std::move(header->metadata)}));
} catch (const std::bad_alloc&) {
  return failure(ErrorCode::out_of_memory, path, "no memory for its header");
}

const std::map<std::string, TensorView>& SafetensorsFile::tensors() const { return contents_->tensors; }

const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return contents_->metadata; }

Result<std::vector<float>> to_floats(const TensorView& tensor) {
  if (tensor.dtype != "F32" && tensor.dtype != "F16" && tensor.dtype != "BF16") {
    return quant::refuse(fmt::format("dtype: {} cannot be read as floats; allowed: F32, F16, BF16",
                                     quant::shown_name(tensor.dtype)));
  }
  const auto bytes = quant::tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes) return quant::refuse(bytes.error());
  if (*bytes != tensor.bytes.size()) {
    return quant::refuse(
        fmt::format("bytes: {} given, dtype and shape take {}", tensor.bytes.size(), *bytes));
  }
  const std::size_t element = tensor.dtype == "F32" ? sizeof(float) : sizeof(std::uint16_t);
  auto values = quant::allocate<float>(tensor.bytes.size() / element, "floats");
  if (!values || values->empty()) return values;
  // Tensors stand at any byte of a file: read by copy.
  if (tensor.dtype == "F32") {
    std::memcpy(values->data(), tensor.bytes.data(), tensor.bytes.size());
    return values;
  }
  const DataType type = tensor.dtype == "F16" ? DataType::fp16 : DataType::bf16;
  for (std::size_t i = 0; i < values->size(); ++i) {
    (*values)[i] = from_bits(llvm::support::endian::read16le(tensor.bytes.data() + i * element), type);
  }
  return values;
}

}  // namespace lutsmith
