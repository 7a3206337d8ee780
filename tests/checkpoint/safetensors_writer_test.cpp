#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "expect_error.h"
#include "failing_allocation.h"
#include "lutsmith/safetensors.h"
#include "temporary_directory.h"

namespace lutsmith {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kName = "out.safetensors";

std::vector<std::byte> bytes_of(std::size_t count, unsigned seed) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 31 + seed);
  return bytes;
}

Result<void> write_one(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  const std::vector<TensorWithBytes> tensors{{"t", "U8", {static_cast<std::int64_t>(bytes.size())}, bytes}};
  return write_safetensors(path, tensors, {});
}

/// Files cannot grow past `bytes` while it lives: the write fails as on a full disk, after it has called
/// `handler`.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes, void (*handler)(int) = SIG_IGN)
      : old_handler_(std::signal(SIGXFSZ, handler)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

/// Root may write anywhere; while this lives it is nobody.
class WithoutPrivileges {
 public:
  WithoutPrivileges() : user_(::geteuid()) {
    constexpr uid_t kNobody = 65534;
    if (user_ == 0 && ::seteuid(kNobody) != 0) ADD_FAILURE() << "cannot drop privileges";
  }
  ~WithoutPrivileges() {
    if (user_ == 0 && ::seteuid(user_) != 0) ADD_FAILURE() << "cannot regain privileges";
  }
  WithoutPrivileges(const WithoutPrivileges&) = delete;
  WithoutPrivileges& operator=(const WithoutPrivileges&) = delete;

 private:
  uid_t user_;
};

TEST(SafetensorsWriter, WhatIsWrittenIsReadBack) {
  const TemporaryDirectory directory;
  const auto bytes = bytes_of(24, 1);
  const std::vector<TensorWithBytes> tensors{
      {"small", "U8", {3}, std::span(bytes).first(3)},
      {"layer \"0\"\n\xc3\xa9", "F32", {2, 3}, bytes},
      {"scalar", "BF16", {}, std::span(bytes).subspan(5, 2)},
      {"", "I64", {4, 0}, {}},
  };
  const std::map<std::string, std::string> metadata{{"format", "lutsmith"}, {"quote\"", "line\nbreak"}};
  const auto written = write_safetensors(directory.path() / kName, tensors, metadata);
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_THAT(directory.names(), ElementsAre(kName));

  const auto file = SafetensorsFile::open(directory.path() / kName);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->metadata(), metadata);
  ASSERT_EQ(file->tensors().size(), tensors.size());
  for (const TensorWithBytes& tensor : tensors) {
    const TensorInfo& info = file->tensors().at(tensor.name);
    EXPECT_EQ(info.dtype, tensor.dtype);
    EXPECT_EQ(info.shape, tensor.shape);
    EXPECT_EQ(info.bytes, tensor.bytes.size());
    const auto read = file->read(tensor.name);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_TRUE(std::ranges::equal(*read, tensor.bytes)) << tensor.name;
  }
}

TEST(SafetensorsWriter, TheSameTensorsInAnyOrderGiveTheSameAlignedFile) {
  const TemporaryDirectory directory;
  const auto bytes = bytes_of(8, 2);
  std::vector<TensorWithBytes> tensors{{"a", "U8", {1}, std::span(bytes).first(1)},
                                       {"b", "F32", {1}, std::span(bytes).first(4)},
                                       {"c", "F64", {1}, bytes},
                                       {"d", "F16", {1}, std::span(bytes).first(2)}};
  ASSERT_TRUE(write_safetensors(directory.path() / "1", tensors, {}));
  std::ranges::reverse(tensors);
  ASSERT_TRUE(write_safetensors(directory.path() / "2", tensors, {}));
  const std::string first = file_bytes(directory.path() / "1");
  EXPECT_EQ(first, file_bytes(directory.path() / "2"));
  std::uint64_t header = 0;
  std::memcpy(&header, first.data(), sizeof(header));
  EXPECT_EQ(header % 8, 0U);
  // c, b, d, a
  const std::string tail = first.substr(8 + header);
  const std::string data(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_EQ(tail, data + data.substr(0, 4) + data.substr(0, 2) + data.substr(0, 1));
}

TEST(SafetensorsWriter, NoTensorsMakeAValidFile) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_safetensors(directory.path() / kName, {}, {}));
  EXPECT_TRUE(SafetensorsFile::open(directory.path() / kName));
}

TEST(SafetensorsWriter, AnOpenFileCanBeReplacedByWhatIsReadFromIt) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / kName;
  const auto bytes = bytes_of(100'000, 3);
  ASSERT_TRUE(write_one(path, bytes));
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file);
  const auto read = file->read("t");
  ASSERT_TRUE(read);
  ASSERT_TRUE(write_one(path, std::span(*read).subspan(50'000)));
  const auto replaced = SafetensorsFile::open(path);
  ASSERT_TRUE(replaced);
  EXPECT_TRUE(std::ranges::equal(*replaced->read("t"), std::span(bytes).subspan(50'000)));
  EXPECT_EQ(*file->read("t"), bytes);
}

TEST(SafetensorsWriter, AFullDiskLeavesTheOldFileAndNothingElse) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / kName;
  ASSERT_TRUE(write_one(path, bytes_of(10, 4)));
  const std::string before = file_bytes(path);
  {
    const FileSizeLimit limit(4096);
    expect_error(write_one(path, bytes_of(100'000, 5)), ErrorCode::io_error, kName, "write");
  }
  EXPECT_EQ(file_bytes(path), before);
  EXPECT_THAT(directory.names(), ElementsAre(kName));
}

TEST(SafetensorsWriter, AMissingDirectoryIsNotMade) {
  const TemporaryDirectory directory;
  expect_error(write_one(directory.path() / "none" / kName, bytes_of(4, 6)), ErrorCode::not_found, kName);
  EXPECT_THAT(directory.names(), IsEmpty());
}

TEST(SafetensorsWriter, AReadOnlyDirectoryStaysAsItIs) {
  const TemporaryDirectory directory;
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0555));
  {
    const WithoutPrivileges nobody;
    expect_error(write_one(directory.path() / kName, bytes_of(4, 7)), ErrorCode::io_error, kName);
  }
  EXPECT_THAT(directory.names(), IsEmpty());
}

TEST(SafetensorsWriter, WhatIsNotAFileIsNotReplaced) {
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory.path() / "folder");
  const auto bytes = bytes_of(4, 8);
  expect_error(write_one(directory.path() / "folder", bytes), ErrorCode::invalid_argument, "folder",
               "regular file");
  expect_error(write_one(directory.path() / "folder/", bytes), ErrorCode::invalid_argument, "regular file");
  expect_error(write_one("/dev/null", bytes), ErrorCode::invalid_argument, "/dev/null");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_THAT(directory.names(), ElementsAre("folder"));
}

TEST(SafetensorsWriter, TensorsThatContradictThemselvesAreRefusedBeforeAnythingIsWritten) {
  const TemporaryDirectory directory;
  const auto bytes = bytes_of(8, 9);
  const auto write = [&](std::vector<TensorWithBytes> tensors,
                         const std::map<std::string, std::string>& metadata = {}) {
    return write_safetensors(directory.path() / kName, tensors, metadata);
  };
  expect_error(write({{"t", "U9", {8}, bytes}}), ErrorCode::invalid_argument, "'t'", "'U9'", "allowed: BOOL");
  expect_error(write({{"t", "U8", {7}, bytes}}), ErrorCode::invalid_argument, "'t'", "8 bytes given",
               "take 7");
  expect_error(write({{"t", "U8", {-8}, bytes}}), ErrorCode::invalid_argument, "'t'", "-8");
  expect_error(write({{"t", "F64", {INT64_MAX, INT64_MAX}, bytes}}), ErrorCode::invalid_argument, "64 bits");
  expect_error(write({{"t", "U8", std::vector<std::int64_t>(65, 1), std::span(bytes).first(1)}}),
               ErrorCode::invalid_argument, "65 dimensions", "64");
  expect_error(write({{"t", "F4", {15}, bytes}}), ErrorCode::invalid_argument, "whole bytes");
  expect_error(write({{"t", "U8", {8}, bytes}, {"t", "F64", {1}, bytes}}), ErrorCode::invalid_argument, "'t'",
               "twice");
  expect_error(write({{"__metadata__", "U8", {8}, bytes}}), ErrorCode::invalid_argument, "reserved");
  expect_error(write({{"\xff", "U8", {8}, bytes}}), ErrorCode::invalid_argument, "UTF-8");
  expect_error(write({}, {{"key", "\xc3\x28"}}), ErrorCode::invalid_argument, "metadata", "'key'", "UTF-8");
  EXPECT_THAT(directory.names(), IsEmpty());
}

/// Two tensors, which stand in the file as b, a.
std::vector<TensorToWrite> two_tensors() { return {{"a", "U8", {6}}, {"b", "F16", {2}}}; }

TEST(SafetensorsWriter, PiecesInAnyOrderFromManyThreadsGiveTheSameFile) {
  const TemporaryDirectory directory;
  const auto bytes = bytes_of(4096, 10);
  const std::map<std::string, std::string> metadata{{"key", "text"}};
  ASSERT_TRUE(write_safetensors(directory.path() / "whole", {{{"t", "U8", {4096}, bytes}}}, metadata));
  const std::vector<TensorToWrite> tensors{{"t", "U8", {4096}}};
  auto writer = SafetensorsWriter::create(directory.path() / "pieces", tensors,
                                          SafetensorsWriter::metadata_bytes(metadata));
  ASSERT_TRUE(writer) << writer.error().message;
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::size_t piece = 64; piece-- > 0;) {
        if (piece % 4 != thread) continue;
        EXPECT_TRUE(writer->write("t", piece * 64, std::span(bytes).subspan(piece * 64, 64)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(writer->commit(metadata));
  EXPECT_EQ(file_bytes(directory.path() / "pieces"), file_bytes(directory.path() / "whole"));
}

TEST(SafetensorsWriter, AFileWithBytesMissingIsNotCommitted) {
  const TemporaryDirectory directory;
  const auto bytes = bytes_of(6, 11);
  {
    auto writer = SafetensorsWriter::create(directory.path() / kName, two_tensors(), 0);
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(writer->write("b", 0, std::span(bytes).first(4)));
    expect_error(writer->commit({}), ErrorCode::invalid_argument, "'a'", "byte 0 of its 6");
    ASSERT_TRUE(writer->write("a", 0, std::span(bytes).first(2)));
    ASSERT_TRUE(writer->write("a", 4, std::span(bytes).first(2)));
    expect_error(writer->commit({}), ErrorCode::invalid_argument, "'a'", "byte 2 of its 6");
  }
  EXPECT_THAT(directory.names(), IsEmpty());
}

TEST(SafetensorsWriter, BytesWrittenTwiceOrOutsideOfATensorAreRefused) {
  const TemporaryDirectory directory;
  const auto bytes = bytes_of(7, 12);
  auto writer = SafetensorsWriter::create(directory.path() / kName, two_tensors(), 0);
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE(writer->write("a", 2, std::span(bytes).first(2)));
  for (const std::uint64_t first : {0U, 1U, 2U, 3U}) {
    expect_error(writer->write("a", first, std::span(bytes).first(3)), ErrorCode::invalid_argument, "'a'",
                 "written before");
  }
  expect_error(writer->write("a", 0, bytes), ErrorCode::invalid_argument, "'a'", "7 bytes", "take 6");
  expect_error(writer->write("a", ~std::uint64_t{0}, std::span(bytes).first(2)), ErrorCode::invalid_argument,
               "'a'");
  expect_error(writer->write("c", 0, bytes), ErrorCode::invalid_argument, "'c'", "not one of those");
}

TEST(SafetensorsWriter, AFailedWriteLeavesItsBytesMissingAndCanBeRepeated) {
  const TemporaryDirectory directory;
  const auto bytes = bytes_of(100'000, 13);
  const std::vector<TensorToWrite> tensors{{"t", "U8", {100'000}}};
  auto writer = SafetensorsWriter::create(directory.path() / kName, tensors, 0);
  ASSERT_TRUE(writer) << writer.error().message;
  {
    const FileSizeLimit limit(4096);
    expect_error(writer->write("t", 0, bytes), ErrorCode::io_error, kName, "File too large");
  }
  expect_error(writer->commit({}), ErrorCode::invalid_argument, "'t'", "byte 0 of its 100000");
  const auto repeated = writer->write("t", 0, bytes);
  ASSERT_TRUE(repeated) << repeated.error().message;
  ASSERT_TRUE(writer->commit({}));
  EXPECT_EQ(*SafetensorsFile::open(directory.path() / kName)->read("t"), bytes);
}

TEST(SafetensorsWriter, AFailedCommitCanBeRepeated) {
  const TemporaryDirectory directory;
  const std::vector<TensorToWrite> none;
  auto writer = SafetensorsWriter::create(directory.path() / kName, none, 100);
  ASSERT_TRUE(writer) << writer.error().message;
  {
    const FileSizeLimit limit(50);
    expect_error(writer->commit({{"key", "text"}}), ErrorCode::io_error, kName, "File too large");
  }
  ASSERT_TRUE(writer->commit({{"key", "text"}}));
  const auto file = SafetensorsFile::open(directory.path() / kName);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->metadata().at("key"), "text");
}

std::atomic<bool> write_is_under_way = false;
std::atomic<bool> write_may_go_on = false;

void hold_up_write(int /*signal*/) {
  write_is_under_way = true;
  while (!write_may_go_on) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(SafetensorsWriter, BytesThatAnotherThreadIsStillWritingAreNotCommitted) {
  const TemporaryDirectory directory;
  const auto bytes = bytes_of(100'000, 14);
  const std::vector<TensorToWrite> tensors{{"t", "U8", {100'000}}};
  auto writer = SafetensorsWriter::create(directory.path() / kName, tensors, 0);
  ASSERT_TRUE(writer) << writer.error().message;
  {
    // The handler runs in the midst of the write, where it can be held.
    const FileSizeLimit limit(4096, hold_up_write);
    std::thread other([&] { EXPECT_FALSE(writer->write("t", 0, bytes)); });
    while (!write_is_under_way) std::this_thread::yield();
    expect_error(writer->write("t", 50'000, std::span(bytes).subspan(50'000)), ErrorCode::invalid_argument,
                 "'t'", "are being written");
    expect_error(writer->commit({}), ErrorCode::invalid_argument, "'t'", "byte 0 of its 100000");
    write_may_go_on = true;
    other.join();
  }
  EXPECT_THAT(directory.names(), IsEmpty());
}

TEST(SafetensorsWriter, AWriteWithoutMemoryIsAnErrorAndCanBeRepeated) {
  const TemporaryDirectory directory;
  const auto bytes = bytes_of(6, 15);
  auto writer = SafetensorsWriter::create(directory.path() / kName, two_tensors(), 0);
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE(writer->write("b", 0, std::span(bytes).first(4)));
  {
    const FailingAllocation next(0);
    expect_error(writer->write("a", 0, bytes), ErrorCode::out_of_memory, kName, "no memory");
  }
  expect_error(writer->commit({}), ErrorCode::invalid_argument, "'a'", "byte 0 of its 6");
  ASSERT_TRUE(writer->write("a", 0, bytes));
  EXPECT_TRUE(writer->commit({}));
}

TEST(SafetensorsWriter, NoMemoryForTheListOfTensorsIsAnErrorAndNoException) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / kName;
  const auto bytes = bytes_of(24, 16);
  const std::vector<TensorWithBytes> tensors{{"a name that takes memory of its own", "F32", {2, 3}, bytes}};
  for (const int before : {0, 1, 2}) {  // name, shape and list
    const FailingAllocation allocation(before);
    expect_error(write_safetensors(path, tensors, {}), ErrorCode::out_of_memory, kName, "no memory");
  }
  EXPECT_THAT(directory.names(), IsEmpty());
}

TEST(SafetensorsWriter, MetadataThatOutgrowsItsSpaceIsRefusedAndLessLeavesBlanks) {
  const TemporaryDirectory directory;
  const std::vector<TensorToWrite> none;
  auto writer = SafetensorsWriter::create(directory.path() / kName, none, 100);
  ASSERT_TRUE(writer) << writer.error().message;
  expect_error(writer->commit({{"key", std::string(200, 'x')}}), ErrorCode::invalid_argument, "metadata",
               "reserved were 104");
  ASSERT_TRUE(writer->commit({{"key", "text"}}));
  expect_error(writer->commit({}), ErrorCode::invalid_argument, "is complete");
  const auto file = SafetensorsFile::open(directory.path() / kName);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->metadata().at("key"), "text");
  EXPECT_EQ(file_bytes(directory.path() / kName).size(), 8U + 104);
}

TEST(SafetensorsWriter, MetadataTakesNoMoreThanIsSaid) {
  const TemporaryDirectory directory;
  const std::map<std::string, std::string> metadata{
      {"quote\"", "line\nbreak \xc3\xa9"}, {"empty", ""}, {"", "x"}};
  const std::vector<TensorToWrite> tensors{{"a", "U8", {0}}};
  auto writer = SafetensorsWriter::create(directory.path() / kName, tensors,
                                          SafetensorsWriter::metadata_bytes(metadata));
  ASSERT_TRUE(writer) << writer.error().message;
  EXPECT_TRUE(writer->commit(metadata));
}

TEST(SafetensorsWriter, TooLittleSpaceShowsBeforeAnythingIsWritten) {
  const TemporaryDirectory directory;
  {
    const FileSizeLimit limit(4096);
    const std::vector<TensorToWrite> tensors{{"t", "U8", {100'000}}};
    expect_error(SafetensorsWriter::create(directory.path() / kName, tensors, 0), ErrorCode::io_error, kName,
                 "cannot write");
  }
  EXPECT_THAT(directory.names(), IsEmpty());
}

}  // namespace
}  // namespace lutsmith
