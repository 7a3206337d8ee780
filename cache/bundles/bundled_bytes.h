#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "cache/entry.h"
#include "cache/key.h"
#include "core/descriptor.h"
#include "lutsmith/error.h"

// What writing a bundle and reading one have in common.

namespace lutsmith::cache {

/// The SHA-256 of an entry's bytes, as the index has it.
std::string digest_of(std::span<const std::byte> bytes);

/// Whether the entry itself says it is this key's: a right entry under a wrong key would be a wrong kernel.
bool belongs_to(const Entry& entry, const Key& key);

/// Fills `bytes` from `offset` on; fewer where the file ends. `path` is for messages.
Result<std::size_t> read_at(const core::Descriptor& file, std::uint64_t offset, std::span<std::byte> bytes,
                            const std::filesystem::path& path);

}  // namespace lutsmith::cache
