#include "cli/output/write_file.h"

#include "core/atomic_file.h"

namespace lutsmith::cli {

Result<void> write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  auto file = core::AtomicFile::create(path);
  if (!file) return std::unexpected(file.error());
  if (const auto written = file->write(bytes); !written) return written;
  return file->commit();
}

}  // namespace lutsmith::cli
