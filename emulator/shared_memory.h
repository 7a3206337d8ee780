#pragma once

#include <llvm/ADT/SmallVector.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emulator/clock.h"

namespace lutsmith::emulator {

/// The dynamic shared memory of a block, with what is known of every 32-bit word: who wrote it and when,
/// who has read it since, and whether a copy is on its way to it. Every access is checked against that;
/// what is wrong is thrown as a Fault.
class SharedMemory {
 public:
  /// `threads` of the block: its components of a clock behind theirs are no thread's.
  SharedMemory(std::size_t bytes, int threads, const ClusterPlace& place = {});

  unsigned char* data() { return data_.get(); }
  std::size_t size() const { return size_; }
  /// The address of a pointer for shared-memory instructions. Checks nothing: it is only arithmetic.
  std::uint32_t address(const void* pointer) const;
  void* pointer(std::uint32_t address);

  void load(void* to, const void* from, std::size_t bytes, const Stamp& reader, const Clock& now);
  void store(void* to, const void* from, std::size_t bytes, const Stamp& writer, const Clock& now);

  /// These bytes hold an mbarrier from now on: no load, store or copy may touch them.
  void reserve(const void* bytes, std::size_t size);

  /// A copy is on its way to these bytes: nobody may touch them until it has arrived. Whoever has read them
  /// must have used something since, for a product, an exchange of lanes or the like (`known_uses` counts
  /// what the issuer knows of a thread's): a load may still be under way when the instructions behind it run,
  /// so it does not suffice that it was issued. `storer` >= 0: it is an asynchronous store by the block that
  /// has this rank.
  void begin_copy(const void* to, std::size_t bytes, const Stamp& issuer, const Clock& now,
                  const std::function<std::uint32_t(int)>& known_uses, int storer = -1);
  /// The copy arrives; it counts as a write at `writer`.
  void end_copy(void* to, const void* from, std::size_t bytes, const Stamp& writer);

  /// Somebody who wrote what a product reads, and one of the words.
  struct Source {
    Stamp writer;
    std::size_t word = 0;
  };

  /// From here on a product that was issued at `line` reads these bytes: nobody may write them. Adds who
  /// wrote them to `sources`, each once, for check_source().
  void begin_product(std::size_t offset, std::size_t bytes, int line, std::vector<Source>& sources);
  /// Whether the thread with this component knows of what a product of its warpgroup reads.
  void check_source(const Source& source, int component, const Clock& now) const;
  /// The product is done; it counts as a read at `reader`.
  void end_product(std::size_t offset, std::size_t bytes, const Stamp& reader);

 private:
  struct Word {
    Stamp writer;
    llvm::SmallVector<Stamp, 2> readers;  ///< since then, the latest of each
    int copy_line = 0;                    ///< where the copy that is on its way was issued; 0: none is
    int products = 0;                     ///< that read it now,
    int product_line = 0;                 ///< the latest of them issued here
    bool reserved = false;
    std::int8_t storer = -1;  ///< rank of the block whose store is or was the last copy; -1: it is no store
  };

  /// The words of an access, which lies within the memory and is aligned to `alignment`.
  std::size_t first_word(const void* pointer, std::size_t bytes, std::size_t alignment) const;
  [[noreturn]] void report_race(const char* does, const char* did, const Stamp& other,
                                std::size_t index) const;
  void check_free(const Word& word, std::size_t index) const;
  /// Of this block, by its component.
  std::string thread_name(int who) const;
  std::string copy_name(const Word& word, int line) const;
  void claim(Word& word, std::size_t index, const Stamp& writer, const Clock& now) const;
  static void add_reader(Word& word, const Stamp& reader);

  struct Free {
    void operator()(unsigned char* data) const;
  };

  std::size_t size_;
  int threads_;
  ClusterPlace place_;
  int first_component_;
  std::unique_ptr<unsigned char[], Free> data_;
  std::vector<Word> words_;
};

}  // namespace lutsmith::emulator
