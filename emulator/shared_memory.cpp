#include "emulator/shared_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

#include "emulator/fault.h"

namespace lutsmith::emulator {
namespace {

constexpr std::size_t kWordBytes = 4;
/// Shared memory does not begin at address 0, so a forgotten base shows.
constexpr std::uint32_t kBase = 0x400;
/// What the kernel declares for its dynamic shared memory.
constexpr std::size_t kAlignment = 1024;
constexpr int kPoison = 0xfe;

std::size_t in_words(std::size_t bytes) { return (bytes + kWordBytes - 1) / kWordBytes; }

}  // namespace

void SharedMemory::Free::operator()(unsigned char* data) const { std::free(data); }

SharedMemory::SharedMemory(std::size_t bytes, int threads, const ClusterPlace& place)
    : size_(bytes),
      threads_(threads),
      place_(place),
      first_component_(place.first_component(threads)),
      data_(static_cast<unsigned char*>(
          std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) & ~(kAlignment - 1)))),
      words_(in_words(bytes)) {
  if (data_ == nullptr && bytes > 0) throw std::bad_alloc();
  if (bytes > 0) std::memset(data_.get(), kPoison, bytes);
}

std::uint32_t SharedMemory::address(const void* pointer) const {
  const auto offset =
      reinterpret_cast<std::uintptr_t>(pointer) - reinterpret_cast<std::uintptr_t>(data_.get());
  return kBase + static_cast<std::uint32_t>(offset);
}

void* SharedMemory::pointer(std::uint32_t address) {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(data_.get()) + address - kBase);
}

std::size_t SharedMemory::first_word(const void* pointer, std::size_t bytes, std::size_t alignment) const {
  const auto offset =
      reinterpret_cast<std::uintptr_t>(pointer) - reinterpret_cast<std::uintptr_t>(data_.get());
  if (offset > size_ || bytes > size_ - offset) {
    throw Fault(fmt::format("touches {} bytes at shared byte {}; the block has {}", bytes,
                            static_cast<std::intptr_t>(offset), size_));
  }
  if (offset % alignment != 0) {
    throw Fault(fmt::format("touches {} bytes at shared byte {}, which is no multiple of {}", bytes, offset,
                            alignment));
  }
  return offset / kWordBytes;
}

std::string SharedMemory::thread_name(int who) const {
  const int index = who - first_component_;
  if (place_.blocks == 1) return fmt::format("thread {}", index);
  return fmt::format("thread {} of block {}", index, place_.block());
}

std::string SharedMemory::copy_name(const Word& word, int line) const {
  if (word.storer < 0) return fmt::format("copy issued at line {}", line);
  return fmt::format("store that block {} issued at line {}", place_.first_block + word.storer, line);
}

/// `did` is what the other did, a thread or a product of this block; bytes that a copy wrote belong to none.
void SharedMemory::report_race(const char* does, const char* did, const Stamp& other,
                               std::size_t index) const {
  const std::size_t byte = index * kWordBytes;
  const int component = other.who - first_component_;
  if (component >= first_warpgroup(threads_)) {
    throw Fault(fmt::format("{} shared byte {} that the product issued at line {} {}, without waiting for it",
                            does, byte, other.line, did));
  }
  if (component >= threads_) {
    const Word& word = words_[index];
    throw Fault(fmt::format("{} shared byte {} that the {}{} brought, without waiting for its mbarrier", does,
                            byte, word.storer < 0 ? "bulk " : "", copy_name(word, other.line)));
  }
  throw Fault(fmt::format("{} shared byte {} that {} {} at line {}, with no barrier between", does, byte,
                          thread_name(other.who), did, other.line));
}

void SharedMemory::check_free(const Word& word, std::size_t index) const {
  if (word.reserved) {
    throw Fault(fmt::format("touches shared bytes from {} on, which hold an mbarrier", index * kWordBytes));
  }
  if (word.copy_line != 0) {
    throw Fault(fmt::format("touches shared byte {} while the {} is under way", index * kWordBytes,
                            copy_name(word, word.copy_line)));
  }
}

void SharedMemory::reserve(const void* bytes, std::size_t size) {
  const std::size_t first = first_word(bytes, size, size);
  for (std::size_t i = first; i < first + in_words(size); ++i) words_[i].reserved = true;
}

void SharedMemory::load(void* to, const void* from, std::size_t bytes, const Stamp& reader,
                        const Clock& now) {
  const std::size_t first = first_word(from, bytes, std::bit_ceil(bytes));
  for (std::size_t i = first; i < first + in_words(bytes); ++i) {
    Word& word = words_[i];
    check_free(word, i);
    if (word.writer.count == 0) {
      throw Fault(fmt::format("reads shared byte {}, which nobody has written", i * kWordBytes));
    }
    if (word.writer.who != reader.who && !happened_before(word.writer, now)) {
      report_race("reads", "wrote", word.writer, i);
    }
    add_reader(word, reader);
  }
  std::memcpy(to, from, bytes);
}

void SharedMemory::add_reader(Word& word, const Stamp& reader) {
  const auto same = std::ranges::find(word.readers, reader.who, &Stamp::who);
  if (same == word.readers.end()) {
    word.readers.push_back(reader);
  } else {
    *same = reader;
  }
}

/// Nobody else may still be at the word.
void SharedMemory::claim(Word& word, std::size_t index, const Stamp& writer, const Clock& now) const {
  check_free(word, index);
  if (word.products > 0) {
    throw Fault(fmt::format("writes shared byte {} while the product issued at line {} reads it",
                            index * kWordBytes, word.product_line));
  }
  if (word.writer.who != writer.who && !happened_before(word.writer, now)) {
    report_race("writes", "wrote", word.writer, index);
  }
  for (const Stamp& reader : word.readers) {
    if (reader.who != writer.who && !happened_before(reader, now))
      report_race("writes", "read", reader, index);
  }
  word.readers.clear();
}

void SharedMemory::store(void* to, const void* from, std::size_t bytes, const Stamp& writer,
                         const Clock& now) {
  const std::size_t first = first_word(to, bytes, std::bit_ceil(bytes));
  for (std::size_t i = first; i < first + in_words(bytes); ++i) {
    claim(words_[i], i, writer, now);
    words_[i].writer = writer;
  }
  std::memcpy(to, from, bytes);
}

void SharedMemory::begin_copy(const void* to, std::size_t bytes, const Stamp& issuer, const Clock& now,
                              const std::function<std::uint32_t(int)>& known_uses, int storer) {
  const std::size_t first = first_word(to, bytes, 16);
  for (std::size_t i = first; i < first + in_words(bytes); ++i) {
    for (const Stamp& reader : words_[i].readers) {
      // One that the issuer does not know of at all is a race, which claim() reports.
      const int thread = reader.who - first_component_;
      if (thread >= threads_ || !happened_before(reader, now)) continue;
      if (known_uses(thread) > reader.uses) continue;
      throw Fault(fmt::format("copies over shared byte {}, which {} has read at line {} but not used",
                              i * kWordBytes, thread_name(reader.who), reader.line));
    }
    claim(words_[i], i, issuer, now);
    words_[i].copy_line = issuer.line;
    words_[i].storer = static_cast<std::int8_t>(storer);
  }
  std::memset(data_.get() + first * kWordBytes, kPoison, bytes);
}

void SharedMemory::end_copy(void* to, const void* from, std::size_t bytes, const Stamp& writer) {
  const std::size_t first = first_word(to, bytes, 16);
  for (std::size_t i = first; i < first + in_words(bytes); ++i) {
    words_[i].copy_line = 0;
    words_[i].writer = writer;
  }
  std::memcpy(to, from, bytes);
}

void SharedMemory::begin_product(std::size_t offset, std::size_t bytes, int line,
                                 std::vector<Source>& sources) {
  const std::size_t first = first_word(data_.get() + offset, bytes, 16);
  for (std::size_t i = first; i < first + in_words(bytes); ++i) {
    Word& word = words_[i];
    check_free(word, i);
    if (word.writer.count == 0) {
      throw Fault(fmt::format("multiplies shared byte {}, which nobody has written", i * kWordBytes));
    }
    ++word.products;
    word.product_line = line;
    const auto same = [&](const Source& source) {
      return source.writer.who == word.writer.who && source.writer.count == word.writer.count;
    };
    if (std::ranges::none_of(sources, same)) sources.push_back({word.writer, i});
  }
}

void SharedMemory::check_source(const Source& source, int component, const Clock& now) const {
  if (source.writer.who == component || happened_before(source.writer, now)) return;
  report_race("multiplies", "wrote", source.writer, source.word);
}

void SharedMemory::end_product(std::size_t offset, std::size_t bytes, const Stamp& reader) {
  const std::size_t first = offset / kWordBytes;
  for (std::size_t i = first; i < first + in_words(bytes); ++i) {
    --words_[i].products;
    add_reader(words_[i], reader);
  }
}

}  // namespace lutsmith::emulator
