#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "command_line.h"

// Kernels that compile in a tenth of a second, and their files in a cache.

namespace lutsmith::tests {

/// A call of `verb` for small kernels, one for each of the comma-separated `bits`.
std::vector<std::string> small_kernels(const std::string& verb, const std::string& bits,
                                       std::vector<std::string> more = {});

/// Compiles them into the program's cache; their keys, in the order of `bits`.
std::vector<std::string> fill_cache(const CommandLine& program, const std::string& bits);

/// "hit" or "miss": what compiling one does now.
std::string outcome_of_compiling(const CommandLine& program, const std::string& bits);

/// Where the entry of a key stands.
std::filesystem::path entry_file(const std::filesystem::path& cache, const std::string& key);

/// Changes one byte of a file.
void flip_byte(const std::filesystem::path& file, std::size_t offset);

/// Makes an entry look as if it had last been used so long ago.
void set_last_used(const std::filesystem::path& file, std::chrono::minutes ago);

/// How many kernels `cache stats` counts.
std::size_t kernels_in_cache(const CommandLine& program);

}  // namespace lutsmith::tests
