#include "core/shared_object.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <system_error>
#include <type_traits>
#include <vector>

#include "core/descriptor.h"
#include "core/environment.h"
#include "core/result.h"

namespace lutsmith {
namespace {

#if defined(__aarch64__)
constexpr std::uint16_t kMachine = EM_AARCH64;
#else
constexpr std::uint16_t kMachine = EM_X86_64;
#endif
// Far more than any library has; bounds what a file of noise makes us read.
constexpr std::size_t kMaxSegments = 1024;
constexpr std::size_t kMaxSections = 65280;  // SHN_LORESERVE
constexpr std::size_t kMaxDynamicEntries = 4096;

std::unexpected<Error> refuse(ErrorCode code, std::string message) {
  return std::unexpected(Error{code, std::move(message), ""});
}

std::unexpected<Error> damaged(std::string_view what) {
  return refuse(ErrorCode::corrupt_data, fmt::format("it is damaged: {}; install it anew", what));
}

/// `a + b`, at most the largest number.
std::uint64_t capped_sum(std::uint64_t a, std::uint64_t b) {
  return a > std::numeric_limits<std::uint64_t>::max() - b ? std::numeric_limits<std::uint64_t>::max()
                                                           : a + b;
}

/// Reads structures out of a file, never beyond its end.
class File {
 public:
  static Result<File> open(const std::string& path) {
    // O_NONBLOCK: the path may be a pipe's, and opening that waits for a writer.
    core::Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!descriptor.valid()) {
      const int reason = errno;
      return refuse(
          reason == ENOENT || reason == ENOTDIR ? ErrorCode::not_found : ErrorCode::io_error,
          reason == ENOENT || reason == ENOTDIR ? "no such file" : std::generic_category().message(reason));
    }
    struct stat status{};
    if (fstat(descriptor.number(), &status) != 0 || !S_ISREG(status.st_mode)) {
      return refuse(ErrorCode::io_error, "it is not a regular file");
    }
    return File(std::move(descriptor), static_cast<std::uint64_t>(status.st_size));
  }

  std::uint64_t size() const { return size_; }
  bool holds(std::uint64_t offset, std::uint64_t bytes) const {
    return offset <= size_ && bytes <= size_ - offset;
  }

  template <class Structure>
  std::optional<std::vector<Structure>> read(std::uint64_t offset, std::size_t count) const {
    static_assert(std::is_trivially_copyable_v<Structure>);
    if (!holds(offset, count * sizeof(Structure))) return std::nullopt;
    std::vector<Structure> values(count);
    auto* to = reinterpret_cast<char*>(values.data());
    std::size_t left = count * sizeof(Structure);
    while (left > 0) {
      const ssize_t got = pread(descriptor_.number(), to, left, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return std::nullopt;
      to += got;
      offset += static_cast<std::uint64_t>(got);
      left -= static_cast<std::size_t>(got);
    }
    return values;
  }

 private:
  File(core::Descriptor descriptor, std::uint64_t size) : descriptor_(std::move(descriptor)), size_(size) {}

  core::Descriptor descriptor_;
  std::uint64_t size_;
};

Result<Elf64_Ehdr> read_header(const File& file) {
  const auto header = file.read<Elf64_Ehdr>(0, 1);
  if (!header || std::memcmp(header->front().e_ident, ELFMAG, SELFMAG) != 0) {
    return refuse(ErrorCode::corrupt_data, "it is no shared library: it does not begin like an ELF file");
  }
  const Elf64_Ehdr& elf = header->front();
  if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_ident[EI_DATA] != ELFDATA2LSB ||
      elf.e_machine != kMachine) {
    return refuse(ErrorCode::unsupported,
                  fmt::format("it is for another kind of machine (ELF machine {}; this one is {})",
                              elf.e_machine, kMachine));
  }
  if (elf.e_type != ET_DYN)
    return refuse(ErrorCode::corrupt_data, "it is an ELF file, but no shared library");
  if (elf.e_phentsize != sizeof(Elf64_Phdr) || elf.e_phnum == 0 || elf.e_phnum > kMaxSegments ||
      (elf.e_shnum != 0 && elf.e_shentsize != sizeof(Elf64_Shdr)) || elf.e_shnum > kMaxSections) {
    return damaged("its ELF header makes no sense");
  }
  return elf;
}

/// A library whose bytes are all there, by its own account.
class SharedObject {
 public:
  static Result<SharedObject> read(const File& file) {
    Result<Elf64_Ehdr> header = read_header(file);
    if (!header) return std::unexpected(std::move(header.error()));
    std::uint64_t end = std::max(table_end(header->e_phoff, header->e_phnum, sizeof(Elf64_Phdr)),
                                 table_end(header->e_shoff, header->e_shnum, sizeof(Elf64_Shdr)));
    const auto segments = file.read<Elf64_Phdr>(header->e_phoff, header->e_phnum);
    const auto sections = file.read<Elf64_Shdr>(header->e_shoff, header->e_shnum);
    if (segments) {
      for (const Elf64_Phdr& one : *segments) end = std::max(end, capped_sum(one.p_offset, one.p_filesz));
    }
    if (sections) {
      for (const Elf64_Shdr& one : *sections) {
        if (one.sh_type == SHT_NOBITS || one.sh_type == SHT_NULL) continue;
        end = std::max(end, capped_sum(one.sh_offset, one.sh_size));
      }
    }
    if (end > file.size()) {
      return refuse(ErrorCode::corrupt_data,
                    fmt::format("it is cut off: it has {} bytes, and its headers tell of {}; install it anew",
                                file.size(), end));
    }
    if (!segments || !sections) return refuse(ErrorCode::io_error, "it cannot be read");
    // The section table comes last: zeros there are what a download that never ended leaves of it.
    if (header->e_shnum > 0 && header->e_shstrndx != SHN_UNDEF &&
        (header->e_shstrndx >= header->e_shnum || (*sections)[header->e_shstrndx].sh_type != SHT_STRTAB)) {
      return damaged("its section table makes no sense");
    }
    return SharedObject(file, *segments);
  }

  Result<void> check_segments() const {
    std::uint64_t loaded_to = 0;
    for (const Elf64_Phdr& segment : segments_) {
      if (segment.p_type == PT_LOAD) {
        if (segment.p_filesz > segment.p_memsz || segment.p_vaddr < loaded_to) {
          return damaged("its segments make no sense");
        }
        loaded_to = capped_sum(segment.p_vaddr, segment.p_memsz);
      } else if (segment.p_type == PT_NOTE || segment.p_type == PT_TLS || segment.p_type == PT_DYNAMIC) {
        if (segment.p_filesz > 0 && offset_of(segment.p_vaddr, segment.p_filesz) != segment.p_offset) {
          return damaged("a segment lies outside of what is loaded");
        }
      }
    }
    return loaded_to > 0 ? Result<void>() : damaged("nothing of it is to be loaded");
  }

  /// What the loader follows without looking.
  Result<void> check_dynamic_section() const {
    const auto segment = std::ranges::find(segments_, PT_DYNAMIC, &Elf64_Phdr::p_type);
    if (segment == segments_.end()) return damaged("it has no dynamic section");
    const std::size_t count = std::min(segment->p_filesz / sizeof(Elf64_Dyn), kMaxDynamicEntries);
    const auto entries = file_.read<Elf64_Dyn>(segment->p_offset, count);
    if (!entries) return refuse(ErrorCode::io_error, "it cannot be read");
    const auto last = std::ranges::find(*entries, DT_NULL, &Elf64_Dyn::d_tag);
    if (last == entries->end()) return damaged("its dynamic section has no end");
    std::map<Elf64_Sxword, std::uint64_t> values;
    for (auto entry = entries->begin(); entry != last; ++entry) values[entry->d_tag] = entry->d_un.d_val;
    for (const Elf64_Sxword tag : {DT_STRTAB, DT_STRSZ, DT_SYMTAB}) {
      if (!values.contains(tag)) return damaged("its dynamic section lacks its symbols");
    }
    if (!tables_are_loaded(values) || !hash_table_makes_sense(values)) {
      return damaged("its dynamic section points outside of what is loaded");
    }
    for (auto entry = entries->begin(); entry != last; ++entry) {
      const bool text = entry->d_tag == DT_NEEDED || entry->d_tag == DT_SONAME || entry->d_tag == DT_RPATH ||
                        entry->d_tag == DT_RUNPATH;
      if (text && entry->d_un.d_val >= values[DT_STRSZ]) return damaged("its names lie outside of its texts");
    }
    return {};
  }

 private:
  SharedObject(const File& file, std::vector<Elf64_Phdr> segments)
      : file_(file), segments_(std::move(segments)) {}

  static std::uint64_t table_end(std::uint64_t offset, std::uint64_t count, std::uint64_t bytes) {
    return count > 0 ? capped_sum(offset, count * bytes) : 0;
  }

  /// Where the bytes that are loaded to an address lie in the file.
  std::optional<std::uint64_t> offset_of(std::uint64_t address, std::uint64_t bytes) const {
    for (const Elf64_Phdr& segment : segments_) {
      if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
          capped_sum(address, bytes) <= capped_sum(segment.p_vaddr, segment.p_filesz)) {
        return segment.p_offset + (address - segment.p_vaddr);
      }
    }
    return std::nullopt;
  }

  bool tables_are_loaded(const std::map<Elf64_Sxword, std::uint64_t>& values) const {
    constexpr Elf64_Sxword kOneEntry = DT_NULL;
    constexpr std::pair<Elf64_Sxword, Elf64_Sxword> kTables[] = {
        {DT_STRTAB, DT_STRSZ},
        {DT_SYMTAB, kOneEntry},
        {DT_RELA, DT_RELASZ},
        {DT_JMPREL, DT_PLTRELSZ},
        {DT_INIT_ARRAY, DT_INIT_ARRAYSZ},
        {DT_FINI_ARRAY, DT_FINI_ARRAYSZ},
        {DT_VERSYM, kOneEntry},
        {DT_VERNEED, kOneEntry},
        {DT_VERDEF, kOneEntry},
        {DT_GNU_HASH, kOneEntry},
        {DT_HASH, kOneEntry},
        {DT_INIT, kOneEntry},
        {DT_FINI, kOneEntry},
    };
    return std::ranges::all_of(kTables, [&](const auto& table) {
      const auto address = values.find(table.first);
      if (address == values.end()) return true;
      const auto bytes = values.find(table.second);
      return offset_of(address->second, bytes != values.end() ? bytes->second : 1).has_value();
    });
  }

  /// The loader counts on a power of two here, and ends the process where it finds none.
  bool hash_table_makes_sense(const std::map<Elf64_Sxword, std::uint64_t>& values) const {
    const auto table = values.find(DT_GNU_HASH);
    if (table == values.end()) return values.contains(DT_HASH);
    constexpr std::size_t kHeaderWords = 4;  // buckets, first symbol, words of the filter, shift
    const auto offset = offset_of(table->second, kHeaderWords * sizeof(std::uint32_t));
    if (!offset) return false;
    const auto header = file_.read<std::uint32_t>(*offset, kHeaderWords);
    if (!header) return false;
    const std::uint64_t buckets = (*header)[0];
    const std::uint64_t filter_words = (*header)[2];
    return filter_words > 0 && (filter_words & (filter_words - 1)) == 0 &&
           offset_of(table->second, kHeaderWords * sizeof(std::uint32_t) + filter_words * sizeof(Elf64_Addr) +
                                        buckets * sizeof(std::uint32_t))
               .has_value();
  }

  const File& file_;
  std::vector<Elf64_Phdr> segments_;
};

}  // namespace

Result<void> check_shared_object(const std::string& path) {
  const Result<File> file = File::open(path);
  if (!file) return std::unexpected(file.error());
  const Result<SharedObject> object = SharedObject::read(*file);
  if (!object) return std::unexpected(object.error());
  if (Result<void> segments = object->check_segments(); !segments) return segments;
  return object->check_dynamic_section();
}

Result<void> check_library(const std::string& name, std::string_view search_path) {
  if (name.contains('/')) return check_shared_object(name);
  if (search_path.empty()) return {};
  while (true) {
    const std::size_t end = std::min(search_path.find_first_of(":;"), search_path.size());
    const std::string folder(search_path.substr(0, end));
    const std::string path = (folder.empty() ? "." : folder) + "/" + name;  // empty: the working directory
    Result<void> whole = check_shared_object(path);
    if (whole) return {};
    if (whole.error().code != ErrorCode::not_found && whole.error().code != ErrorCode::unsupported) {
      whole.error().message = path + ": " + whole.error().message;
      return whole;
    }
    if (end == search_path.size()) return {};
    search_path.remove_prefix(end + 1);
  }
}

Result<void> check_library(const std::string& name) {
  return check_library(name, core::environment_variable("LD_LIBRARY_PATH"));
}

}  // namespace lutsmith
