#include <fmt/format.h>
#include <llvm/Support/ConvertUTF.h>
#include <llvm/Support/Endian.h>

#include <algorithm>
#include <array>
#include <new>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "lutsmith/safetensors.h"
#include "quant/atomic_file.h"
#include "quant/safetensors_format.h"
#include "quant/validation.h"

namespace lutsmith {
namespace {

bool is_utf8(std::string_view text) {
  const auto* begin = reinterpret_cast<const llvm::UTF8*>(text.data());
  return llvm::isLegalUTF8String(&begin, begin + text.size()) != 0;
}

Result<void> validate(const TensorToWrite& tensor) {
  const std::string name = quant::shown_name(tensor.name);
  if (tensor.name == quant::kMetadataKey) {
    return quant::refuse(fmt::format("tensor name: {} is reserved; choose another", name));
  }
  if (!is_utf8(tensor.name)) return quant::refuse(fmt::format("tensor name: {} is not valid UTF-8", name));
  const auto bytes = quant::tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes) return quant::refuse(fmt::format("tensor {}: {}", name, bytes.error()));
  if (*bytes != tensor.bytes.size()) {
    return quant::refuse(
        fmt::format("tensor {}: {} bytes given, dtype and shape take {}", name, tensor.bytes.size(), *bytes));
  }
  return {};
}

Result<void> validate(std::span<const TensorToWrite> tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::set<std::string_view> names;
  for (const TensorToWrite& tensor : tensors) {
    if (auto checked = validate(tensor); !checked) return checked;
    if (!names.insert(tensor.name).second) {
      return quant::refuse(fmt::format("tensor name: {} is given twice", quant::shown_name(tensor.name)));
    }
  }
  for (const auto& [key, text] : metadata) {
    if (!is_utf8(key) || !is_utf8(text)) {
      return quant::refuse(fmt::format("metadata: {} is not valid UTF-8", quant::shown_name(key)));
    }
  }
  return {};
}

/// Widest elements first, so that every tensor stands at a multiple of its element's size; then by
/// name, so that the same tensors give the same file.
std::vector<const TensorToWrite*> in_file_order(std::span<const TensorToWrite> tensors) {
  std::vector<const TensorToWrite*> order;
  for (const TensorToWrite& tensor : tensors) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const TensorToWrite* tensor) {
    return std::pair(-*quant::element_bits(tensor->dtype), std::string_view(tensor->name));
  });
  return order;
}

std::string header_text(std::span<const TensorToWrite* const> order,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header[std::string(quant::kMetadataKey)] = metadata;
  std::uint64_t offset = 0;
  for (const TensorToWrite* tensor : order) {
    const std::uint64_t end = offset + tensor->bytes.size();
    header[tensor->name] = {
        {"dtype", tensor->dtype}, {"shape", tensor->shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  constexpr std::size_t kAlignment = 8;
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  return text;
}

}  // namespace

Result<void> write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                               const std::map<std::string, std::string>& metadata) try {
  if (auto checked = validate(tensors, metadata); !checked) return checked;
  const std::vector<const TensorToWrite*> order = in_file_order(tensors);
  const std::string header = header_text(order, metadata);
  if (header.size() > quant::kMaxHeaderBytes) {
    return quant::refuse(fmt::format("header: {} bytes of names and metadata; allowed: up to {}",
                                     header.size(), quant::kMaxHeaderBytes));
  }
  std::array<std::byte, quant::kLengthBytes> length{};
  llvm::support::endian::write64le(length.data(), header.size());

  auto file = quant::AtomicFile::create(path);
  if (!file) return std::unexpected(file.error());
  if (auto written = file->write(length); !written) return written;
  if (auto written = file->write(std::as_bytes(std::span(header))); !written) return written;
  for (const TensorToWrite* tensor : order) {
    if (auto written = file->write(tensor->bytes); !written) return written;
  }
  return file->commit();
} catch (const std::bad_alloc&) {
  return std::unexpected(
      Error{ErrorCode::out_of_memory, fmt::format("{}: no memory for its header", path.string()), {}});
}

}  // namespace lutsmith
