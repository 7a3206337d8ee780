#include "runtime/build_identity.h"

#include <dlfcn.h>
#include <elf.h>
#include <fmt/format.h>
#include <link.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/SHA256.h>

#include <cstdint>
#include <cstring>

namespace lutsmith {
namespace {

struct NoteSearch {
  std::uintptr_t address;
  std::string id;
};

/// The build id in one segment of notes, or an empty string.
std::string build_id_in(const unsigned char* notes, std::size_t bytes, std::size_t alignment) {
  const auto padded = [alignment](std::size_t size) {
    return (size + alignment - 1) / alignment * alignment;
  };
  while (bytes >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) header;
    std::memcpy(&header, notes, sizeof(header));
    const std::size_t name_bytes = padded(header.n_namesz);
    const std::size_t total = sizeof(header) + name_bytes + padded(header.n_descsz);
    if (total > bytes) break;
    const unsigned char* name = notes + sizeof(header);
    if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0) {
      return llvm::toHex(llvm::ArrayRef(name + name_bytes, header.n_descsz), /*LowerCase=*/true);
    }
    notes += total;
    bytes -= total;
  }
  return {};
}

bool holds(const dl_phdr_info& library, std::uintptr_t address) {
  for (int i = 0; i < library.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = library.dlpi_phdr[i];
    const std::uintptr_t begin = library.dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && address >= begin && address - begin < segment.p_memsz) return true;
  }
  return false;
}

int search_library(dl_phdr_info* library, std::size_t /*size*/, void* data) {
  auto& search = *static_cast<NoteSearch*>(data);
  if (!holds(*library, search.address)) return 0;
  for (int i = 0; i < library->dlpi_phnum && search.id.empty(); ++i) {
    const ElfW(Phdr)& segment = library->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* notes = reinterpret_cast<const unsigned char*>(library->dlpi_addr + segment.p_vaddr);
    search.id = build_id_in(notes, segment.p_memsz, segment.p_align == 8 ? 8 : 4);
  }
  return 1;
}

}  // namespace

Result<BuildIdentity> build_identity_of(const void* address) {
  Dl_info library{};
  if (dladdr(address, &library) == 0 || library.dli_fname == nullptr) {
    return std::unexpected(Error{ErrorCode::not_found, "an address lies in no loaded library", ""});
  }
  BuildIdentity identity{.path = library.dli_fname, .id = {}};
  NoteSearch search{.address = reinterpret_cast<std::uintptr_t>(address), .id = {}};
  dl_iterate_phdr(search_library, &search);
  if (!search.id.empty()) {
    identity.id = "build-id " + search.id;
    return identity;
  }
  const auto file =
      llvm::MemoryBuffer::getFile(identity.path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!file) {
    return std::unexpected(Error{ErrorCode::io_error,
                                 fmt::format("cannot read {}: {}", identity.path, file.getError().message()),
                                 ""});
  }
  const llvm::StringRef contents = (*file)->getBuffer();
  const auto digest = llvm::SHA256::hash(
      llvm::ArrayRef(reinterpret_cast<const std::uint8_t*>(contents.data()), contents.size()));
  identity.id = "sha256 " + llvm::toHex(digest, /*LowerCase=*/true);
  return identity;
}

}  // namespace lutsmith
