#include "runtime/cubin.h"

#include <elf.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>

namespace lutsmith {
namespace {

constexpr std::size_t kMaxCubinBytes = std::size_t{64} << 20;
constexpr std::uint16_t kMachineCuda = 190;
constexpr std::size_t kMaxSections = 4096;
// Compared with the name of every symbol, of which there may be millions.
constexpr std::size_t kMaxNameBytes = 1024;

/// Reads structures out of bytes, never beyond them.
class Bytes {
 public:
  explicit Bytes(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::size_t size() const { return bytes_.size(); }
  bool holds(std::uint64_t offset, std::uint64_t count) const {
    return offset <= bytes_.size() && count <= bytes_.size() - offset;
  }

  template <class Structure>
  std::optional<Structure> read(std::uint64_t offset) const {
    static_assert(std::is_trivially_copyable_v<Structure>);
    if (!holds(offset, sizeof(Structure))) return std::nullopt;
    Structure value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(value));
    return value;
  }

  /// Whether the text at `offset`, inside a table that ends at `end`, is `name`.
  bool is_text(std::uint64_t offset, std::uint64_t end, std::string_view name) const {
    if (offset > end || end - offset <= name.size() || !holds(offset, name.size() + 1)) return false;
    return std::memcmp(bytes_.data() + offset, name.data(), name.size()) == 0 &&
           bytes_[offset + name.size()] == std::byte{0};
  }

 private:
  std::span<const std::byte> bytes_;
};

Error damaged(std::string_view reason) {
  return Error{ErrorCode::corrupt_data,
               fmt::format("the compiled kernel is unusable: {}; compile it again", reason), ""};
}

// Up to CUDA 12 the architecture is the lowest byte of the flags, from ABI version 8 on the second.
std::optional<int> architecture_of(const Elf64_Ehdr& header) {
  switch (header.e_ident[EI_ABIVERSION]) {
    case 7:
      return static_cast<int>(header.e_flags & 0xffU);
    case 8:
      return static_cast<int>((header.e_flags >> 8U) & 0xffU);
    default:
      return std::nullopt;
  }
}

Result<Elf64_Ehdr> read_header(const Bytes& bytes, Target target) {
  const std::optional<Elf64_Ehdr> header = bytes.read<Elf64_Ehdr>(0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB) {
    return std::unexpected(damaged("it is no 64-bit ELF file"));
  }
  if (header->e_machine != kMachineCuda) {
    return std::unexpected(
        damaged(fmt::format("its machine is {}, not CUDA ({})", header->e_machine, kMachineCuda)));
  }
  const int wanted = 10 * target.traits().major + target.traits().minor;
  const std::optional<int> architecture = architecture_of(*header);
  if (architecture && *architecture != wanted) {
    return std::unexpected(damaged(fmt::format("it is for sm_{}, not for {}", *architecture, target.name())));
  }
  if (header->e_shentsize != sizeof(Elf64_Shdr) || header->e_shnum == 0 || header->e_shnum > kMaxSections ||
      !bytes.holds(header->e_shoff, std::uint64_t{header->e_shnum} * sizeof(Elf64_Shdr))) {
    return std::unexpected(damaged("its section table is cut off"));
  }
  return *header;
}

/// Whether a symbol table names a function `kernel` that has code.
bool names_kernel(const Bytes& bytes, const Elf64_Shdr& symbols, const Elf64_Shdr& names,
                  std::string_view kernel) {
  for (std::uint64_t at = 0; at + sizeof(Elf64_Sym) <= symbols.sh_size; at += sizeof(Elf64_Sym)) {
    const std::optional<Elf64_Sym> symbol = bytes.read<Elf64_Sym>(symbols.sh_offset + at);
    if (symbol && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_shndx != SHN_UNDEF &&
        symbol->st_size > 0 &&
        bytes.is_text(names.sh_offset + symbol->st_name, names.sh_offset + names.sh_size, kernel)) {
      return true;
    }
  }
  return false;
}

}  // namespace

Result<void> check_cubin(std::span<const std::byte> cubin, Target target, std::string_view kernel) {
  if (cubin.size() > kMaxCubinBytes) return std::unexpected(damaged("it is longer than any kernel"));
  if (kernel.size() > kMaxNameBytes) return std::unexpected(damaged("its name is longer than any kernel's"));
  const Bytes bytes(cubin);
  Result<Elf64_Ehdr> header = read_header(bytes, target);
  if (!header) return std::unexpected(std::move(header.error()));
  const auto section = [&](std::uint64_t index) {
    return bytes.read<Elf64_Shdr>(header->e_shoff + index * sizeof(Elf64_Shdr));
  };
  std::optional<Elf64_Shdr> symbols;
  for (std::uint64_t i = 0; i < header->e_shnum; ++i) {
    const std::optional<Elf64_Shdr> one = section(i);
    if (!one || (one->sh_type != SHT_NOBITS && one->sh_type != SHT_NULL &&
                 !bytes.holds(one->sh_offset, one->sh_size))) {
      return std::unexpected(damaged("a section reaches beyond its end"));
    }
    if (one->sh_type != SHT_SYMTAB) continue;
    // Thousands that overlap, each as long as the file, would take seconds to read.
    if (symbols) return std::unexpected(damaged("it has two symbol tables, where ELF allows one"));
    symbols = one;
  }
  bool found = false;
  if (symbols && symbols->sh_link < header->e_shnum) {
    const std::optional<Elf64_Shdr> names = section(symbols->sh_link);
    found = names->sh_type == SHT_STRTAB && names_kernel(bytes, *symbols, *names, kernel);
  }
  if (!found) return std::unexpected(damaged(fmt::format("it holds no kernel {}", kernel)));
  return {};
}

}  // namespace lutsmith
