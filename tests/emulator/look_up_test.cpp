// A second look-up engine takes the place of the pair table in an emitted source: the main loop, which names
// no engine, is not touched.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "emulation.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

/// One value a code, straight from the kernel's parameter, which is constant memory. Needs no shared memory.
constexpr std::string_view kConstantTable = R"(template <class Config>
class LookUp {
 public:
  using Parameter = InlineTable<Config>;
  static constexpr int kSharedBytes = 0;
  static __device__ void fill(unsigned char*, const Parameter&, int, int) {}
  __device__ LookUp(unsigned char*, const Parameter& parameter) : table_(parameter.table) {}
  __device__ void begin_segment(int, int) {}
  __device__ void look_up(unsigned int (&a)[4], const WeightUnit<Config>& unit, int record, int mma) const {
    const unsigned int codes = unit.nibbles(record, mma);
    for (int i = 0; i < 4; ++i) a[i] = table_[codes >> 8 * i & 15] | table_[codes >> 8 * i + 4 & 15] << 16;
  }
 private:
  const unsigned short* table_;
};
)";

/// A table for every row, behind a pointer.
constexpr std::string_view kTablesOfRows = R"(template <class Config>
class LookUp {
 public:
  using Parameter = PointedTables;
  static constexpr int kSharedBytes = 0;
  static __device__ void fill(unsigned char*, const Parameter&, int, int) {}
  __device__ LookUp(unsigned char*, const Parameter& parameter) : parameter_(parameter) {}
  __device__ void begin_segment(int row_tile, int lane) { row_ = row_tile * Config::kTileRows + lane / 4; }
  __device__ void look_up(unsigned int (&a)[4], const WeightUnit<Config>& unit, int record, int mma) const {
    const unsigned int codes = unit.nibbles(record, mma);
    for (int i = 0; i < 4; ++i) {
      const unsigned short* table =
          parameter_.tables + (row_ + record * 16 + i % 2 * 8) * parameter_.table_stride;
      a[i] = table[codes >> 8 * i & 15] | table[codes >> 8 * i + 4 & 15] << 16;
    }
  }
 private:
  const Parameter& parameter_;
  int row_ = 0;
};
)";

/// The source with `engine` in place of its class LookUp.
Source with_engine(Source source, std::string_view engine) {
  constexpr std::string_view kBegin = "template <class Config>\nclass LookUp {";
  constexpr std::string_view kEnd = "\n};\n";
  const std::size_t begin = source.text.find(kBegin);
  EXPECT_NE(begin, std::string::npos) << "the source has no class LookUp";
  const std::size_t end = source.text.find(kEnd, begin) + kEnd.size();
  source.text.replace(begin, end - begin, engine);
  return source;
}

KernelSpec spec_of(int bits, int group) {
  return {.format = {.bits = bits, .group = group, .n = 40, .k = 264},
          .m = 1,
          .target = must(Target::parse("sm_90a"))};
}

TEST(LookUpEngines, ATableInConstantMemoryIsRightWithoutAChangeOfTheMainLoop) {
  for (const WeightPath weights : {WeightPath::registers, WeightPath::bulk_copy}) {
    for (const int bits : {2, 3, 4}) {
      SCOPED_TRACE(std::string(to_string(weights)) + ", bits " + std::to_string(bits));
      const KernelSpec spec = spec_of(bits, bits == 3 ? kPerChannel : 64);
      const FewTokensSchedule schedule{.tile_rows = 16, .tile_tokens = 8, .warps = 2, .weights = weights};
      const Source source = with_engine(must(render(spec, schedule)), kConstantTable);
      const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
      const Problem problem = make_problem(spec, 3);
      EXPECT_LE(error_of(problem, must(emulate(kernel, source, problem, {.partitions = 5}))),
                tolerance(spec.format.dtype));
    }
  }
}

TEST(LookUpEngines, GiveTheSameBits) {
  const KernelSpec spec = spec_of(4, 128);
  const FewTokensSchedule schedule{.tile_rows = 32, .tile_tokens = 8, .warps = 3};
  const Source shared = must(render(spec, schedule));
  const Source constant = with_engine(shared, kConstantTable);
  ASSERT_NE(shared.text, constant.text);
  const Problem problem = make_problem(spec, 8);
  std::vector<std::vector<std::uint16_t>> results;
  for (const Source* source : {&shared, &constant}) {
    const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, *source));
    results.push_back(must(emulate(kernel, *source, problem)));
  }
  EXPECT_EQ(results[0], results[1]);
}

// Rows take turns between the problem's table and its negative, so every second column of Y changes its sign.
TEST(LookUpEngines, TablesBehindAPointerReachTheirRows) {
  const KernelSpec spec = spec_of(4, 128);
  for (const int tile_rows : {16, 32}) {
    const FewTokensSchedule schedule{.tile_rows = tile_rows, .tile_tokens = 8, .warps = 2};
    const Source plain = must(render(spec, schedule));
    const Source pointed = with_engine(plain, kTablesOfRows);
    Problem problem = make_problem(spec, 3);
    const auto inline_kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, plain));
    const auto expected = must(emulate(inline_kernel, plain, problem));

    constexpr std::int64_t kStride = 24;  // longer than a table
    constexpr std::size_t kPaddedRows = 64;
    std::vector<std::uint16_t> tables(kPaddedRows * kStride);
    for (std::size_t i = 0; i < tables.size(); ++i) {
      const std::size_t code = i % kStride;
      const int sign = i / kStride % 2 == 0 ? 0 : 0x8000;
      if (code < problem.matrix.table.size()) {
        tables[i] = static_cast<std::uint16_t>(problem.matrix.table[code] ^ sign);
      }
    }
    // The emulator puts what it is given as table behind the launch's arguments: here pointer and stride.
    const auto address = reinterpret_cast<std::uintptr_t>(tables.data());
    std::memcpy(problem.matrix.table.data(), &address, sizeof(address));
    std::memcpy(problem.matrix.table.data() + 4, &kStride, sizeof(kStride));
    const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, pointed));
    const auto result = must(emulate(kernel, pointed, problem));
    ASSERT_EQ(result.size(), expected.size());
    for (std::size_t i = 0; i < result.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) % spec.format.n;
      const float sign = row % 2 == 0 ? 1.0F : -1.0F;
      ASSERT_EQ(from_bits(result[i], spec.format.dtype), sign * from_bits(expected[i], spec.format.dtype))
          << "row " << row;
    }
  }
}

// What an engine or a stream must offer is said by the compiler.
TEST(LookUpEngines, OneThatLacksALookUpIsRefusedInASentence) {
  const KernelSpec spec = spec_of(4, 128);
  std::string lacking(kConstantTable);
  const std::size_t at = lacking.find("void look_up(");
  ASSERT_NE(at, std::string::npos);
  lacking.replace(at, std::string_view("void look_up(").size(), "void find(");
  const Source source = with_engine(must(render(spec, must(schedules(spec)).front())), lacking);
  const auto kernel = emulator::EmulatedKernel::compile(host_compiler(), spec, source);
  ASSERT_FALSE(kernel);
  EXPECT_EQ(kernel.error().code, ErrorCode::compilation_failed);
  EXPECT_NE(kernel.error().context.find("a look-up engine has fill("), std::string::npos)
      << kernel.error().context;
}

TEST(WeightStreams, OneThatLacksAReleaseIsRefusedInASentence) {
  const KernelSpec spec = spec_of(4, 128);
  Source source = must(render(spec, FewTokensSchedule{.warps = 2}));
  const std::size_t at = source.text.find("void release(int parity, float)");
  ASSERT_NE(at, std::string::npos);
  source.text.replace(at, std::string_view("void release(").size(), "void forget(");
  const auto kernel = emulator::EmulatedKernel::compile(host_compiler(), spec, source);
  ASSERT_FALSE(kernel);
  EXPECT_EQ(kernel.error().code, ErrorCode::compilation_failed);
  EXPECT_NE(kernel.error().context.find("a weight stream has prime()"), std::string::npos)
      << kernel.error().context;
}

}  // namespace
}  // namespace lutsmith::emulator_test
