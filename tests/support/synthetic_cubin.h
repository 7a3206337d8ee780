#pragma once

#include <elf.h>

#include <cstddef>
#include <cstring>
#include <string_view>
#include <vector>

#include "lutsmith/target.h"

namespace lutsmith {

/// The smallest file that passes for a cubin: header, a symbol table that names one kernel, its names.
///
///   | ELF header | names | symbols: null, kernel | sections: null, code, names, symbols |
inline std::vector<std::byte> synthetic_cubin(Target target, std::string_view kernel) {
  constexpr std::size_t kNames = sizeof(Elf64_Ehdr);
  const std::size_t name_bytes = 1 + kernel.size() + 1;
  const std::size_t symbols = (kNames + name_bytes + 7) / 8 * 8;
  const std::size_t sections = symbols + 2 * sizeof(Elf64_Sym);
  std::vector<std::byte> file(sections + 4 * sizeof(Elf64_Shdr));

  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_ABIVERSION] = 8;
  header.e_machine = 190;
  header.e_flags = static_cast<Elf64_Word>(10 * target.traits().major + target.traits().minor) << 8U;
  header.e_shoff = sections;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 4;
  std::memcpy(file.data(), &header, sizeof(header));
  std::memcpy(file.data() + kNames + 1, kernel.data(), kernel.size());

  Elf64_Sym symbol{};
  symbol.st_name = 1;
  symbol.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
  symbol.st_shndx = 1;
  symbol.st_size = 128;
  std::memcpy(file.data() + symbols + sizeof(Elf64_Sym), &symbol, sizeof(symbol));

  Elf64_Shdr table[4] = {};
  table[1].sh_type = SHT_NOBITS;
  table[2].sh_type = SHT_STRTAB;
  table[2].sh_offset = kNames;
  table[2].sh_size = name_bytes;
  table[3].sh_type = SHT_SYMTAB;
  table[3].sh_offset = symbols;
  table[3].sh_size = 2 * sizeof(Elf64_Sym);
  table[3].sh_link = 2;
  std::memcpy(file.data() + sections, table, sizeof(table));
  return file;
}

}  // namespace lutsmith
