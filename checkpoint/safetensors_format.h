#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lutsmith/error.h"

// What the reader and the writer of safetensors files both know.
//
//   | 8 bytes: length of the header | header: JSON, padded with blanks | bytes of all tensors |
//
//   header = { "name": { "dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end] }, ...,
//              "__metadata__": { "key": "text", ... } }
//
// Offsets count from the end of the header; the tensors cover the bytes without gap or overlap.

namespace lutsmith::checkpoint {

inline constexpr std::size_t kLengthBytes = 8;
inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
inline constexpr std::size_t kMaxDimensions = 64;
inline constexpr std::string_view kMetadataKey = "__metadata__";

/// Bits of one element; nothing for an unknown type.
std::optional<int> element_bits(std::string_view dtype);
/// All known types, for messages.
std::string known_dtypes();

/// Bytes of a tensor. The error (the reason alone, without a name) covers unknown types, negative
/// and too many dimensions, overflow, and sub-byte elements that do not fill whole bytes.
std::expected<std::uint64_t, std::string> tensor_bytes(std::string_view dtype,
                                                       std::span<const std::int64_t> shape);

/// A name from a file as a message may show it: in quotes, cut off, without control characters.
std::string shown_name(std::string_view name);

}  // namespace lutsmith::checkpoint
