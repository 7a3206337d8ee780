#include <fmt/format.h>
#include <llvm/ADT/ScopeExit.h>
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

#include "checkpoint/safetensors_format.h"
#include "core/allocate.h"
#include "core/atomic_file.h"
#include "core/result.h"
#include "lutsmith/safetensors.h"

namespace lutsmith {
namespace {

bool is_utf8(std::string_view text) {
  const auto* begin = reinterpret_cast<const llvm::UTF8*>(text.data());
  return llvm::isLegalUTF8String(&begin, begin + text.size()) != 0;
}

Result<std::uint64_t> validate(const TensorToWrite& tensor) {
  const std::string name = checkpoint::shown_name(tensor.name);
  if (tensor.name == checkpoint::kMetadataKey) {
    return refuse(fmt::format("tensor name: {} is reserved; choose another", name));
  }
  if (!is_utf8(tensor.name)) return refuse(fmt::format("tensor name: {} is not valid UTF-8", name));
  const auto bytes = checkpoint::tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes) return refuse(fmt::format("tensor {}: {}", name, bytes.error()));
  return *bytes;
}

Result<void> validate(const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, text] : metadata) {
    if (!is_utf8(key) || !is_utf8(text)) {
      return refuse(fmt::format("metadata: {} is not valid UTF-8", checkpoint::shown_name(key)));
    }
  }
  return {};
}

/// Which bytes of one tensor were written, and which are being written.
class Written {
 public:
  /// False where one of the bytes was written before or is being written. None may be empty.
  bool begin(std::uint64_t first, std::uint64_t end) {
    if (overlap(written_, first, end) || overlap(under_way_, first, end)) return false;
    under_way_.emplace(first, end);
    return true;
  }

  /// Of what began at `first`. Takes no memory, so that it cannot fail.
  void end(std::uint64_t first, bool written) {
    auto piece = under_way_.extract(first);
    if (!written) return;
    auto next = written_.lower_bound(first);
    if (next != written_.end() && next->first == piece.mapped()) {
      piece.mapped() = next->second;
      next = written_.erase(next);
    }
    auto before = next == written_.begin() ? written_.end() : std::prev(next);
    if (before != written_.end() && before->second == first) {
      before->second = piece.mapped();
    } else {
      written_.insert(std::move(piece));
    }
  }

  /// The first byte that was not written; the tensor's size where all were.
  std::uint64_t missing() const {
    return written_.empty() || written_.begin()->first > 0 ? 0 : written_.begin()->second;
  }

 private:
  using Pieces = std::map<std::uint64_t, std::uint64_t>;  // first byte -> end

  static bool overlap(const Pieces& pieces, std::uint64_t first, std::uint64_t end) {
    const auto next = pieces.lower_bound(first);
    if (next != pieces.end() && next->first < end) return true;
    return next != pieces.begin() && std::prev(next)->second > first;
  }

  Pieces written_;  // none touches the next
  Pieces under_way_;
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
    return *checkpoint::element_bits(tensor->second.dtype);
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
      return refuse(fmt::format("tensor name: {} is given twice", checkpoint::shown_name(tensor.name)));
    }
    if (__builtin_add_overflow(total, *bytes, &total) || !std::in_range<std::int64_t>(total)) {
      return refuse(fmt::format("tensor {}: with it the tensors are larger than a file can be",
                                checkpoint::shown_name(tensor.name)));
    }
  }
  place(layout);
  return layout;
}

std::string header_text(const Layout& layout, const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header[std::string(checkpoint::kMetadataKey)] = metadata;
  for (const auto& [name, tensor] : layout) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {tensor.begin, tensor.begin + tensor.bytes}}};
  }
  return header.dump();
}

std::unexpected<Error> no_memory(const std::filesystem::path& path) {
  return std::unexpected(
      Error{ErrorCode::out_of_memory, fmt::format("{}: no memory to write it", path.string()), {}});
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
  return checkpoint::kMetadataKey.size() + kQuotesColonAndComma +
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
  if (header > checkpoint::kMaxHeaderBytes) {
    return refuse(fmt::format("header: {} bytes of names and metadata; allowed: up to {}", header,
                              checkpoint::kMaxHeaderBytes));
  }
  auto file = core::AtomicFile::create(path);
  if (!file) return std::unexpected(file.error());
  std::uint64_t total = checkpoint::kLengthBytes + header;
  for (const auto& [name, tensor] : *layout) total += tensor.bytes;
  if (const auto reserved = file->reserve(total); !reserved) return std::unexpected(reserved.error());
  return SafetensorsWriter(std::make_unique<State>(path, *std::move(file), header, *std::move(layout)));
} catch (const std::bad_alloc&) {
  return no_memory(path);
}

Result<void> SafetensorsWriter::write(const std::string& name, std::uint64_t first_byte,
                                      std::span<const std::byte> bytes) try {
  const auto found = state_->layout.find(name);
  if (found == state_->layout.end()) {
    return refuse(fmt::format("tensor {}: is not one of those to be written", checkpoint::shown_name(name)));
  }
  Placed& tensor = found->second;
  if (first_byte > tensor.bytes || bytes.size() > tensor.bytes - first_byte) {
    return refuse(fmt::format("tensor {}: {} bytes given from byte {} on, dtype and shape take {}",
                              checkpoint::shown_name(name), bytes.size(), first_byte, tensor.bytes));
  }
  {
    const std::scoped_lock lock(state_->mutex);
    if (state_->committed) {
      return refuse(fmt::format("{}: is complete; nothing can be added", state_->path.string()));
    }
    if (bytes.empty()) return {};
    if (!tensor.written.begin(first_byte, first_byte + bytes.size())) {
      return refuse(fmt::format("tensor {}: bytes from {} to {} were written before or are being written",
                                checkpoint::shown_name(name), first_byte, first_byte + bytes.size()));
    }
  }
  bool succeeded = false;
  const auto end = llvm::make_scope_exit([&] {
    const std::scoped_lock lock(state_->mutex);
    tensor.written.end(first_byte, succeeded);
  });
  auto written = state_->file.write_at(
      checkpoint::kLengthBytes + state_->header_bytes + tensor.begin + first_byte, bytes);
  succeeded = written.has_value();
  return written;
} catch (const std::bad_alloc&) {
  return no_memory(state_->path);
}

Result<void> SafetensorsWriter::commit(const std::map<std::string, std::string>& metadata) try {
  if (auto checked = validate(metadata); !checked) return checked;
  const std::scoped_lock lock(state_->mutex);
  if (state_->committed) {
    return refuse(fmt::format("{}: is complete; nothing can be added", state_->path.string()));
  }
  for (const auto& [name, tensor] : state_->layout) {
    if (const std::uint64_t missing = tensor.written.missing(); missing != tensor.bytes) {
      return refuse(fmt::format("tensor {}: byte {} of its {} was not written", checkpoint::shown_name(name),
                                missing, tensor.bytes));
    }
  }
  std::string header = header_text(state_->layout, metadata);
  if (header.size() > state_->header_bytes) {
    return refuse(fmt::format("metadata: the header with it takes {} bytes, reserved were {}", header.size(),
                              state_->header_bytes));
  }
  header.append(state_->header_bytes - header.size(), ' ');
  std::array<std::byte, checkpoint::kLengthBytes> length{};
  llvm::support::endian::write64le(length.data(), header.size());
  if (auto written = state_->file.write_at(0, length); !written) return written;
  if (auto written = state_->file.write_at(length.size(), std::as_bytes(std::span(header))); !written) {
    return written;
  }
  state_->committed = true;
  return state_->file.commit();
} catch (const std::bad_alloc&) {
  return no_memory(state_->path);
}

Result<void> write_safetensors(const std::filesystem::path& path, std::span<const TensorWithBytes> tensors,
                               const std::map<std::string, std::string>& metadata) try {
  if (auto checked = validate(metadata); !checked) return checked;
  std::vector<TensorToWrite> to_write;
  for (const TensorWithBytes& tensor : tensors) {
    to_write.push_back({tensor.name, tensor.dtype, tensor.shape});
    const auto bytes = validate(to_write.back());
    if (!bytes) return std::unexpected(bytes.error());
    if (*bytes != tensor.bytes.size()) {
      return refuse(fmt::format("tensor {}: {} bytes given, dtype and shape take {}",
                                checkpoint::shown_name(tensor.name), tensor.bytes.size(), *bytes));
    }
  }
  auto writer = SafetensorsWriter::create(path, to_write, SafetensorsWriter::metadata_bytes(metadata));
  if (!writer) return std::unexpected(writer.error());
  for (const TensorWithBytes& tensor : tensors) {
    if (auto written = writer->write(tensor.name, 0, tensor.bytes); !written) return written;
  }
  return writer->commit(metadata);
} catch (const std::bad_alloc&) {
  return no_memory(path);
}

}  // namespace lutsmith
