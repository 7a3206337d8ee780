#include <fmt/format.h>
#include <llvm/Support/ConvertUTF.h>
#include <llvm/Support/Endian.h>

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <mutex>
#include <new>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/atomic_file.h"
#include "lutsmith/safetensors.h"
#include "quant/safetensors_format.h"
#include "quant/validation.h"

namespace lutsmith {
namespace {

bool is_utf8(std::string_view text) {
  const auto* begin = reinterpret_cast<const llvm::UTF8*>(text.data());
  return llvm::isLegalUTF8String(&begin, begin + text.size()) != 0;
}

Result<std::uint64_t> validate(const TensorToWrite& tensor) {
  const std::string name = quant::shown_name(tensor.name);
  if (tensor.name == quant::kMetadataKey) {
    return quant::refuse(fmt::format("tensor name: {} is reserved; choose another", name));
  }
  if (!is_utf8(tensor.name)) return quant::refuse(fmt::format("tensor name: {} is not valid UTF-8", name));
  const auto bytes = quant::tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes) return quant::refuse(fmt::format("tensor {}: {}", name, bytes.error()));
  return *bytes;
}

Result<void> validate(const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, text] : metadata) {
    if (!is_utf8(key) || !is_utf8(text)) {
      return quant::refuse(fmt::format("metadata: {} is not valid UTF-8", quant::shown_name(key)));
    }
  }
  return {};
}

/// Bytes that were written of one tensor, as pieces that touch neither each other nor what follows.
class Written {
 public:
  /// False where one of the bytes was written before.
  bool add(std::uint64_t begin, std::uint64_t end) {
    if (begin == end) return true;
    auto next = pieces_.lower_bound(begin);
    if (next != pieces_.end() && next->first < end) return false;
    auto before = next == pieces_.begin() ? pieces_.end() : std::prev(next);
    if (before != pieces_.end() && before->second > begin) return false;
    if (next != pieces_.end() && next->first == end) {
      end = next->second;
      pieces_.erase(next);
    }
    if (before != pieces_.end() && before->second == begin) {
      before->second = end;
    } else {
      pieces_.emplace(begin, end);
    }
    return true;
  }

  /// The first byte that is missing; `bytes` where none is.
  std::uint64_t missing() const {
    return pieces_.empty() || pieces_.begin()->first > 0 ? 0 : pieces_.begin()->second;
  }

 private:
  std::map<std::uint64_t, std::uint64_t> pieces_;  // begin -> end
};

struct Placed {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  // counted from the end of the header
  std::uint64_t bytes = 0;
  Written written;
};

using Layout = std::map<std::string, Placed>;

/// Widest elements first, so that every tensor stands at a multiple of its element's size; then by
/// name, so that the same tensors give the same file.
void place(Layout& layout) {
  std::vector<Layout::value_type*> order;
  for (auto& tensor : layout) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::greater(), [](const Layout::value_type* tensor) {
    return *quant::element_bits(tensor->second.dtype);
  });
  std::uint64_t offset = 0;
  for (Layout::value_type* tensor : order) {
    tensor->second.begin = offset;
    offset += tensor->second.bytes;
  }
}

Result<Layout> make_layout(std::span<const TensorToWrite> tensors) {
  Layout layout;
  std::uint64_t total = 0;
  for (const TensorToWrite& tensor : tensors) {
    const auto bytes = validate(tensor);
    if (!bytes) return std::unexpected(bytes.error());
    if (!layout.try_emplace(tensor.name, Placed{tensor.dtype, tensor.shape, 0, *bytes, {}}).second) {
      return quant::refuse(fmt::format("tensor name: {} is given twice", quant::shown_name(tensor.name)));
    }
    if (__builtin_add_overflow(total, *bytes, &total) || !std::in_range<std::int64_t>(total)) {
      return quant::refuse(fmt::format("tensor {}: with it the tensors are larger than a file can be",
                                       quant::shown_name(tensor.name)));
    }
  }
  place(layout);
  return layout;
}

std::string header_text(const Layout& layout, const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header[std::string(quant::kMetadataKey)] = metadata;
  for (const auto& [name, tensor] : layout) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {tensor.begin, tensor.begin + tensor.bytes}}};
  }
  return header.dump();
}

std::unexpected<Error> no_memory(const std::filesystem::path& path) {
  return std::unexpected(
      Error{ErrorCode::out_of_memory, fmt::format("{}: no memory for its header", path.string()), {}});
}

}  // namespace

struct SafetensorsWriter::State {
  std::filesystem::path path;
  core::AtomicFile file;
  std::uint64_t header_bytes = 0;
  Layout layout;
  std::mutex mutex = {};  // of what the layout has as written, and of the next
  bool committed = false;
};

SafetensorsWriter::SafetensorsWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&& other) noexcept = default;
SafetensorsWriter& SafetensorsWriter::operator=(SafetensorsWriter&& other) noexcept = default;
SafetensorsWriter::~SafetensorsWriter() = default;

std::size_t SafetensorsWriter::metadata_bytes(const std::map<std::string, std::string>& metadata) {
  if (metadata.empty()) return 0;
  constexpr std::size_t kQuotesColonAndComma = 4;
  const nlohmann::json json(metadata);
  return quant::kMetadataKey.size() + kQuotesColonAndComma +
         json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).size();
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& path,
                                                    std::span<const TensorToWrite> tensors,
                                                    std::size_t metadata_bytes) try {
  auto layout = make_layout(tensors);
  if (!layout) return std::unexpected(layout.error());
  // Padded so that the tensors stand at a multiple of their elements' size.
  constexpr std::uint64_t kAlignment = 8;
  const std::uint64_t header =
      (header_text(*layout, {}).size() + metadata_bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (header > quant::kMaxHeaderBytes) {
    return quant::refuse(fmt::format("header: {} bytes of names and metadata; allowed: up to {}", header,
                                     quant::kMaxHeaderBytes));
  }
  auto file = core::AtomicFile::create(path);
  if (!file) return std::unexpected(file.error());
  std::uint64_t total = quant::kLengthBytes + header;
  for (const auto& [name, tensor] : *layout) total += tensor.bytes;
  if (const auto reserved = file->reserve(total); !reserved) return std::unexpected(reserved.error());
  return SafetensorsWriter(std::make_unique<State>(path, *std::move(file), header, *std::move(layout)));
} catch (const std::bad_alloc&) {
  return no_memory(path);
}

Result<void> SafetensorsWriter::write(const std::string& name, std::uint64_t first_byte,
                                      std::span<const std::byte> bytes) {
  const auto found = state_->layout.find(name);
  if (found == state_->layout.end()) {
    return quant::refuse(
        fmt::format("tensor {}: is not one of those to be written", quant::shown_name(name)));
  }
  Placed& tensor = found->second;
  if (first_byte > tensor.bytes || bytes.size() > tensor.bytes - first_byte) {
    return quant::refuse(fmt::format("tensor {}: {} bytes given from byte {} on, dtype and shape take {}",
                                     quant::shown_name(name), bytes.size(), first_byte, tensor.bytes));
  }
  {
    const std::scoped_lock lock(state_->mutex);
    if (state_->committed) {
      return quant::refuse(fmt::format("{}: is complete; nothing can be added", state_->path.string()));
    }
    if (!tensor.written.add(first_byte, first_byte + bytes.size())) {
      return quant::refuse(fmt::format("tensor {}: bytes from {} to {} were written before",
                                       quant::shown_name(name), first_byte, first_byte + bytes.size()));
    }
  }
  return state_->file.write_at(quant::kLengthBytes + state_->header_bytes + tensor.begin + first_byte, bytes);
}

Result<void> SafetensorsWriter::commit(const std::map<std::string, std::string>& metadata) try {
  if (auto checked = validate(metadata); !checked) return checked;
  const std::scoped_lock lock(state_->mutex);
  if (state_->committed) {
    return quant::refuse(fmt::format("{}: is complete; nothing can be added", state_->path.string()));
  }
  for (const auto& [name, tensor] : state_->layout) {
    if (const std::uint64_t missing = tensor.written.missing(); missing != tensor.bytes) {
      return quant::refuse(fmt::format("tensor {}: byte {} of its {} was not written",
                                       quant::shown_name(name), missing, tensor.bytes));
    }
  }
  std::string header = header_text(state_->layout, metadata);
  if (header.size() > state_->header_bytes) {
    return quant::refuse(fmt::format("metadata: the header with it takes {} bytes, reserved were {}",
                                     header.size(), state_->header_bytes));
  }
  header.append(state_->header_bytes - header.size(), ' ');
  std::array<std::byte, quant::kLengthBytes> length{};
  llvm::support::endian::write64le(length.data(), header.size());
  if (auto written = state_->file.write(length); !written) return written;
  if (auto written = state_->file.write(std::as_bytes(std::span(header))); !written) return written;
  state_->committed = true;
  return state_->file.commit();
} catch (const std::bad_alloc&) {
  return no_memory(state_->path);
}

Result<void> write_safetensors(const std::filesystem::path& path, std::span<const TensorWithBytes> tensors,
                               const std::map<std::string, std::string>& metadata) {
  if (auto checked = validate(metadata); !checked) return checked;
  std::vector<TensorToWrite> to_write;
  for (const TensorWithBytes& tensor : tensors) {
    to_write.push_back({tensor.name, tensor.dtype, tensor.shape});
    const auto bytes = validate(to_write.back());
    if (!bytes) return std::unexpected(bytes.error());
    if (*bytes != tensor.bytes.size()) {
      return quant::refuse(fmt::format("tensor {}: {} bytes given, dtype and shape take {}",
                                       quant::shown_name(tensor.name), tensor.bytes.size(), *bytes));
    }
  }
  auto writer = SafetensorsWriter::create(path, to_write, SafetensorsWriter::metadata_bytes(metadata));
  if (!writer) return std::unexpected(writer.error());
  for (const TensorWithBytes& tensor : tensors) {
    if (auto written = writer->write(tensor.name, 0, tensor.bytes); !written) return written;
  }
  return writer->commit(metadata);
}

}  // namespace lutsmith
