#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/safetensors_header.h"
#include "expect_error.h"
#include "lutsmith/float16.h"
#include "lutsmith/safetensors.h"
#include "temporary_directory.h"

namespace lutsmith {
namespace {

std::string length_field(std::uint64_t length) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(length >> 8 * i & 0xff);
  return bytes;
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return length_field(header.size()) + header + std::string(data_bytes, 'x');
}

std::string small_file() {
  return file_of(R"({"__metadata__":{"format":"pt"},)"
                 R"("a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                 R"("b":{"dtype":"U8","shape":[],"data_offsets":[16,17]},)"
                 R"("c":{"dtype":"BF16","shape":[3,0],"data_offsets":[17,17]}}  )",
                 17);
}

Result<SafetensorsFile> open_bytes(const std::string& bytes) {
  const TemporaryDirectory directory;
  return SafetensorsFile::open(directory.write("file.safetensors", bytes));
}

TEST(SafetensorsReader, TensorsAndMetadataAreFound) {
  const auto file = open_bytes(small_file());
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 3U);
  const TensorInfo& a = file->tensors().at("a");
  EXPECT_EQ(a.dtype, "F32");
  EXPECT_THAT(a.shape, testing::ElementsAre(2, 2));
  EXPECT_EQ(a.bytes, 16U);
  EXPECT_EQ(file->tensors().at("b").bytes, 1U);
  EXPECT_THAT(file->tensors().at("c").shape, testing::ElementsAre(3, 0));
  EXPECT_EQ(file->tensors().at("c").bytes, 0U);
  EXPECT_THAT(file->metadata(), testing::ElementsAre(testing::Pair("format", "pt")));
}

TEST(SafetensorsReader, AFileWithoutTensorsIsValid) {
  const auto file = open_bytes(file_of("{}", 0));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_TRUE(file->metadata().empty());
}

TEST(SafetensorsReader, ACopyCanBeReadWhenTheFirstHandleAndTheNameAreGone) {
  std::optional<SafetensorsFile> copy;
  {
    const auto file = open_bytes(small_file());
    ASSERT_TRUE(file);
    copy = *file;
  }
  const auto bytes = copy->read("a");
  ASSERT_TRUE(bytes) << bytes.error().message;
  EXPECT_EQ(*bytes, std::vector(16, std::byte{'x'}));
}

TEST(SafetensorsReader, AnyPartOfATensorCanBeRead) {
  const std::string bytes = file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                                    R"("t":{"dtype":"U8","shape":[6],"data_offsets":[2,8]}})",
                                    0) +
                            "abcdefgh";
  const auto file = open_bytes(bytes);
  ASSERT_TRUE(file) << file.error().message;
  for (std::size_t first = 0; first <= 6; ++first) {
    for (std::size_t size = 0; first + size <= 6; ++size) {
      std::string part(size, ' ');
      ASSERT_TRUE(file->read("t", first, std::as_writable_bytes(std::span(part))));
      EXPECT_EQ(part, std::string("cdefgh").substr(first, size));
    }
  }
}

TEST(SafetensorsReader, BytesOutsideOfATensorAndUnknownTensorsAreRefused) {
  const auto file = open_bytes(small_file());
  ASSERT_TRUE(file);
  std::array<std::byte, 17> into{};
  expect_error(file->read("a", 0, into), ErrorCode::invalid_argument, "'a'", "17 bytes from byte 0", "16");
  expect_error(file->read("a", 17, {}), ErrorCode::invalid_argument, "'a'", "from byte 17", "16");
  expect_error(file->read("a", ~std::uint64_t{0}, std::span(into).first(2)), ErrorCode::invalid_argument,
               "'a'");
  expect_error(file->read("none"), ErrorCode::invalid_argument, "file.safetensors", "no tensor 'none'");
}

// With a memory map this ends the test program by SIGBUS.
TEST(SafetensorsReader, AFileThatGetsShorterWhileItIsReadIsAnError) {
  const TemporaryDirectory directory;
  constexpr std::size_t kBytes = 1'000'003;
  const auto path = directory.write(
      "file.safetensors",
      file_of(R"({"t":{"dtype":"U8","shape":[1000003],"data_offsets":[0,1000003]}})", kBytes));
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(::truncate(path.c_str(), 5000), 0);
  expect_error(file->read("t"), ErrorCode::corrupt_data,
               "file.safetensors: ", "got shorter while it was read", "5000 now");
  std::array<std::byte, 100> part{};
  expect_error(file->read("t", kBytes - 100, part), ErrorCode::corrupt_data, "got shorter");
  EXPECT_TRUE(file->read("t", 0, part)) << "what is still there can be read";
}

TEST(SafetensorsReader, AFileCutOffAtAnyByteIsRefused) {
  const std::string whole = small_file();
  ASSERT_TRUE(open_bytes(whole));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    SCOPED_TRACE(length);
    expect_error(open_bytes(whole.substr(0, length)), ErrorCode::corrupt_data, "file.safetensors");
  }
  expect_error(open_bytes(whole + "x"), ErrorCode::corrupt_data, "1 bytes of data belong to no tensor");
}

TEST(SafetensorsReader, AnyChangedHeaderByteIsRefusedOrStillConsistent) {
  constexpr std::string_view kReplacements("\0\xff\"{}[],9-e", 11);
  const std::string whole = small_file();
  for (std::size_t position = 0; position + 17 < whole.size(); ++position) {
    std::string bytes = whole;
    bytes[position] = kReplacements[position % kReplacements.size()];
    const auto file = open_bytes(bytes);
    if (!file) {
      EXPECT_EQ(file.error().code, ErrorCode::corrupt_data) << file.error().message;
      continue;
    }
    std::size_t covered = 0;
    for (const auto& [name, tensor] : file->tensors()) covered += tensor.bytes;
    EXPECT_EQ(covered, 17U);
  }
}

TEST(SafetensorsReader, AHeaderWithAnyByteChangedToAnyOtherIsReadOrRefusedWithAReason) {
  const std::string header = small_file().substr(8, small_file().size() - 8 - 17);
  ASSERT_TRUE(checkpoint::parse_safetensors_header(header));
  for (std::size_t position = 0; position < header.size(); ++position) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = header;
      changed[position] = static_cast<char>(value);
      const auto parsed = checkpoint::parse_safetensors_header(changed);
      ASSERT_TRUE(parsed || !parsed.error().empty()) << position << ", " << value;
      if (!parsed) continue;
      for (const auto& [name, entry] : parsed->tensors) ASSERT_EQ(entry.offsets.size(), 2U) << changed;
    }
  }
}

struct Hostile {
  const char* name;
  std::string bytes;
  const char* reason;
};

std::string nested(std::size_t depth, const std::string& before, char bracket) {
  return before + std::string(depth, bracket);
}

std::string one_tensor(const std::string& fields, std::size_t data_bytes) {
  return file_of(R"({"t":{)" + fields + "}}", data_bytes);
}

std::string text(const char* c) { return c; }

std::vector<Hostile> hostile_files() {
  const std::string header = R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  const std::string t = R"("t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  return {
      {"LengthPastTheEnd", length_field(header.size() + 5) + header + "xxxx", "only"},
      {"LengthOfAllOnes", length_field(~std::uint64_t{0}) + header + "xxxx", "claims 18446744073709551615"},
      {"LengthAboveTheLimit", length_field(100'000'001) + header + "xxxx", "allowed: up to 100000000"},
      {"LengthTooShort", length_field(header.size() - 1) + header + "xxxx", "not valid JSON"},
      {"LengthZero", length_field(0) + "xxxx", "begin with '{'"},
      {"NotJson", file_of("{hello}", 0), "not valid JSON"},
      {"Array", file_of("[1]", 0), "begin with '{'"},
      {"LeadingBlank", file_of(" {}", 0), "begin with '{'"},
      {"ByteOrderMark", file_of("\xef\xbb\xbf{}", 0), "begin with '{'"},
      {"TrailingText", file_of("{} x", 0), "not valid JSON"},
      {"TwoObjects", file_of("{}{}", 0), "not valid JSON"},
      {"NullCharacterHidesTheRest", file_of(std::string("{}\0garbage", 10), 0), "null character"},
      {"BrokenUtf8", file_of("{\"\xc3\x28\":{}}", 0), "not valid JSON"},
      {"NestedArrays", file_of(nested(1'000'000, R"({"t":{"shape":)", '['), 0), "found a list"},
      {"NestedObjects", file_of(nested(1, R"({"t":{"dtype":{"a":{"a":{"a":)", '{'), 0), "found an object"},
      {"NestedMetadata", file_of(nested(1'000'000, R"({"__metadata__":{"a":)", '['), 0), "found a list"},
      {"TensorIsANumber", file_of(R"({"t":4})", 0), "found the number 4"},
      {"TensorIsNull", file_of(R"({"t":null})", 0), "found null"},
      {"TensorIsAList", file_of(R"({"t":[]})", 0), "found a list"},
      {"SameTensorTwice", file_of("{" + t + "," + t + "}", 4), "'t' twice"},
      {"SameFieldTwice", one_tensor(R"("dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4])", 4),
       "dtype twice"},
      {"ShapeTwice", one_tensor(R"("dtype":"U8","shape":[2],"shape":[2],"data_offsets":[0,4])", 4),
       "shape twice"},
      {"MissingDtype", one_tensor(R"("shape":[4],"data_offsets":[0,4])", 4), "lacks"},
      {"MissingShape", one_tensor(R"("dtype":"U8","data_offsets":[0,4])", 4), "lacks"},
      {"MissingOffsets", one_tensor(R"("dtype":"U8","shape":[4])", 4), "lacks"},
      {"UnknownFieldNestsWithoutEnd",
       one_tensor(R"("dtype":"U8","shape":[4],"data_offsets":[0,4],"x":)" + nested(1'000'000, "", '['), 4),
       "'x': nests deeper"},
      {"UnknownDtype", one_tensor(R"("dtype":"U9","shape":[4],"data_offsets":[0,4])", 4), "allowed: BOOL"},
      {"DtypeIsANumber", one_tensor(R"("dtype":8,"shape":[4],"data_offsets":[0,4])", 4),
       "found the number 8"},
      {"DtypeIsAList", one_tensor(R"("dtype":["U8"],"shape":[4],"data_offsets":[0,4])", 4), "found a list"},
      {"ShapeIsText", one_tensor(R"("dtype":"U8","shape":"4","data_offsets":[0,4])", 4),
       "found the text '4'"},
      {"ShapeHoldsText", one_tensor(R"("dtype":"U8","shape":["4"],"data_offsets":[0,4])", 4),
       "found the text"},
      {"ShapeHoldsTrue", one_tensor(R"("dtype":"U8","shape":[true],"data_offsets":[0,4])", 4), "truth value"},
      {"ShapeIsNegative", one_tensor(R"("dtype":"U8","shape":[-4],"data_offsets":[0,4])", 4), "number -4"},
      {"ShapeIsTwiceNegative", one_tensor(R"("dtype":"U8","shape":[-2,-2],"data_offsets":[0,4])", 4),
       "number -2"},
      {"ShapeIsAFraction", one_tensor(R"("dtype":"U8","shape":[4.0],"data_offsets":[0,4])", 4),
       "number '4.0'"},
      {"ShapeIsAnExponent", one_tensor(R"("dtype":"U8","shape":[4e0],"data_offsets":[0,4])", 4),
       "number '4e0'"},
      {"ShapeIsHuge", one_tensor(R"("dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,4])", 4),
       "too large"},
      {"ShapeIsHuger", one_tensor(R"("dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,4])", 4),
       "found the number"},
      {"ShapeIsInfinite", one_tensor(R"("dtype":"U8","shape":[1e999],"data_offsets":[0,4])", 4),
       "not valid JSON"},
      // 2^32 * 2^32 elements wrap around to 0 bytes, 2^62 * 4 bytes too
      {"ShapeWraps", one_tensor(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])", 0),
       "64 bits"},
      {"BytesWrap", one_tensor(R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0])", 0),
       "64 bits"},
      {"ManyDimensions",
       one_tensor(
           R"("dtype":"U8","shape":[1)" +
               [] {
                 std::string ones;
                 for (int i = 0; i < 64; ++i) ones += ",1";
                 return ones;
               }() +
               R"(],"data_offsets":[0,1])",
           1),
       "more than 64"},
      {"OneOffset", one_tensor(R"("dtype":"U8","shape":[4],"data_offsets":[4])", 4), "fewer than 2"},
      {"ThreeOffsets", one_tensor(R"("dtype":"U8","shape":[4],"data_offsets":[0,4,8])", 4), "more than 2"},
      {"NegativeOffset", one_tensor(R"("dtype":"U8","shape":[4],"data_offsets":[-4,0])", 4), "number -4"},
      {"OffsetsBackwards", one_tensor(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])", 4), "backwards"},
      {"OffsetPastTheEnd", one_tensor(R"("dtype":"U8","shape":[5],"data_offsets":[0,5])", 4),
       "pass the 4 bytes"},
      {"HugeOffsets",
       one_tensor(R"("dtype":"U8","shape":[4],"data_offsets":[9223372036854775803,9223372036854775807])", 4),
       "pass the 4 bytes"},
      {"SizeContradictsShape", one_tensor(R"("dtype":"F16","shape":[4],"data_offsets":[0,4])", 4), "take 8"},
      {"HalfAByte", one_tensor(R"("dtype":"F4","shape":[7],"data_offsets":[0,4])", 4), "whole bytes"},
      {"Overlap", file_of("{" + t + R"(,"u":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})", 7),
       "overlapping"},
      {"SameBytesTwice", file_of("{" + t + R"(,"u":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4),
       "overlapping"},
      {"EmptyInsideAnother", file_of("{" + t + R"(,"u":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})", 4),
       "overlapping"},
      {"Gap", file_of("{" + t + R"(,"u":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})", 9), "gap"},
      {"GapAtTheStart", one_tensor(R"("dtype":"U8","shape":[4],"data_offsets":[1,5])", 5), "gap"},
      {"BytesLeftOver", file_of("{" + t + "}", 5), "belong to no tensor"},
      {"MetadataIsAList", file_of(R"({"__metadata__":[]})", 0), "found a list"},
      {"MetadataIsText", file_of(R"({"__metadata__":"x"})", 0), "found the text"},
      {"MetadataHoldsANumber", file_of(R"({"__metadata__":{"a":1}})", 0), "found the number 1"},
      {"MetadataHoldsAnObject", file_of(R"({"__metadata__":{"a":{}}})", 0), "found an object"},
      {"MetadataHoldsNull", file_of(R"({"__metadata__":{"a":null}})", 0), "found null"},
      {"MetadataTwice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "twice"},
      {"MetadataKeyTwice", file_of(R"({"__metadata__":{"a":"1","a":"2"}})", 0), "'a' twice"},
      {"LongNameInTheMessage", file_of("{\"" + std::string(5000, 'n') + "\":1}", 0), "nnn...'"},
      {"ControlCharactersInTheMessage", file_of(text(R"({"\u001b[31m\n":1})"), 0), "'?[31m?'"},
  };
}

class HostileSafetensors : public testing::TestWithParam<Hostile> {};

TEST_P(HostileSafetensors, IsRefusedWithFileAndReason) {
  const auto file = open_bytes(GetParam().bytes);
  expect_error(file, ErrorCode::corrupt_data, "file.safetensors: ", GetParam().reason);
  EXPECT_LT(file.error().message.size(), 600U);
}

INSTANTIATE_TEST_SUITE_P(Headers, HostileSafetensors, testing::ValuesIn(hostile_files()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(SafetensorsReader, WhatIsNotAFileIsRefusedAtOnce) {
  const TemporaryDirectory directory;
  expect_error(SafetensorsFile::open(directory.path() / "none"), ErrorCode::not_found, "none");
  expect_error(SafetensorsFile::open(directory.path()), ErrorCode::invalid_argument, "regular file");
  const std::filesystem::path pipe = directory.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_error(SafetensorsFile::open(pipe), ErrorCode::invalid_argument, "pipe", "regular file");
}

// What the format's own library reads and our own once did not.

TEST(SafetensorsReader, UnknownFieldsOfATensorArePassedOver) {
  const auto file = open_bytes(file_of(
      R"({"t":{"checksum":"00","a":null,"b":[1,{"dtype":"F32","shape":[9]},-1.5e3,true],"dtype":"U8",)"
      R"("shape":[4],"c":{"x":{},"data_offsets":[7,8]},"data_offsets":[0,4],"d":{}}})",
      4));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors().at("t").dtype, "U8");
  EXPECT_THAT(file->tensors().at("t").shape, testing::ElementsAre(4));
  EXPECT_TRUE(file->read("t"));
}

TEST(SafetensorsReader, MetadataOfNullIsNoMetadata) {
  const auto file =
      open_bytes(file_of(R"({"__metadata__":null,"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE(file->metadata().empty());
  EXPECT_EQ(file->tensors().size(), 1U);
}

TEST(SafetensorsReader, EveryTypeOfTheFormatHasItsSize) {
  const std::map<std::string, std::uint64_t> bytes_of_eight{
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};
  for (const auto& [dtype, bytes] : bytes_of_eight) {
    const auto file = open_bytes(file_of(
        R"({"t":{"dtype":")" + dtype + R"(","shape":[8],"data_offsets":[0,)" + std::to_string(bytes) + "]}}",
        bytes));
    ASSERT_TRUE(file) << dtype << ": " << file.error().message;
    EXPECT_EQ(file->tensors().at("t").bytes, bytes) << dtype;
  }
}

TEST(ToFloats, ReadsAllFloatingTypesAtAnyAddress) {
  const std::vector<float> values{1.5F, -0.25F, 3};
  for (const std::string dtype : {"F64", "F32", "F16", "BF16"}) {
    std::vector<std::byte> bytes(1);  // one byte off every alignment
    for (const float value : values) {
      const double wide = value;
      const std::uint16_t bits = to_bits(value, dtype == "F16" ? DataType::f16 : DataType::bf16);
      auto raw = std::as_bytes(std::span(&bits, 1));
      if (dtype == "F64") raw = std::as_bytes(std::span(&wide, 1));
      if (dtype == "F32") raw = std::as_bytes(std::span(&value, 1));
      bytes.insert(bytes.end(), raw.begin(), raw.end());
    }
    const auto floats = to_floats(dtype, std::span(bytes).subspan(1));
    ASSERT_TRUE(floats) << floats.error().message;
    EXPECT_EQ(*floats, values) << dtype;
  }
}

TEST(ToFloats, AnEmptyTensorGivesNoFloats) {
  const auto floats = to_floats("F32", {});
  ASSERT_TRUE(floats);
  EXPECT_TRUE(floats->empty());
}

TEST(ToFloats, OtherTypesAndContradictionsAreRefused) {
  const std::vector<std::byte> bytes(8);
  expect_error(to_floats("I32", bytes), ErrorCode::invalid_argument, "'I32'", "F64, F32, F16, BF16");
  expect_error(to_floats("F32", std::span(bytes).first(7)), ErrorCode::invalid_argument, "7 given",
               "4 of F32");
}

}  // namespace
}  // namespace lutsmith
