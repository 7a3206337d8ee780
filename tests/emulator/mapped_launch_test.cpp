// The parameter of kernels to which the copy engine brings X: what EmulatedKernel::launch puts behind the
// table.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "emulation.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

using emulator::EmulatedKernel;

/// Each of 24 threads writes one k of three tokens of X, as they came in a box, scaled by a value of the
/// table.
constexpr std::string_view kKernel = R"(
using namespace lutsmith;
using namespace lutsmith::device;
extern "C" __global__ void copies_boxes(
    const __grid_constant__ MappedParameter<KernelParameter<table_length(kBits, false)>> parameter) {
  unsigned char* shared = dynamic_shared();
  Mbarrier* barrier = reinterpret_cast<Mbarrier*>(shared + 1024);
  if (thread_index() == 0) {
    prefetch_tensor_map(parameter.activations);
    initialize_barrier(barrier, 1);
    fence_barrier_initialization();
  }
  block_barrier();
  if (thread_index() == 0) {
    arrive_expecting(barrier, 4 * 128);
    copy_tensor(shared, parameter.activations, 0, 0, barrier);
  }
  wait_barrier(barrier, 0);
  const LaunchArguments& launch = parameter.form.launch;
  const int k = thread_index();
  if (k >= 24) return;
  for (int token = 0; token < launch.tokens; ++token) {
    const unsigned char* piece = shared + token * 128 + (k / 8 ^ token) * 16;
    const unsigned short x = load_shared(reinterpret_cast<const unsigned short*>(piece) + k % 8);
    store_output(static_cast<unsigned short*>(launch.output) + token * launch.output_stride + k,
                 from_float<Element::f16>(to_float<Element::f16>(x) *
                                          to_float<Element::f16>(parameter.form.table[(1 << kBits) - 1])));
  }
}
)";

Source source_of(int bits, int box_tokens) {
  std::string text;
  for (const std::string_view name :
       {"templates/abi/host_device.h", "templates/abi/element.h", "templates/abi/kernel_arguments.h"}) {
    text += body_of_template(name);
  }
  text += "constexpr int kBits = " + std::to_string(bits) + ";\n";
  text += kKernel;
  return {.text = text,
          .kernel_name = "copies_boxes",
          .launch = {.threads = 32,
                     .shared_bytes = 2048,
                     .tile_rows = 32,
                     .tile_tokens = 4,
                     .row_tiles = 1,
                     .steps_per_tile = 1,
                     .activation_box_tokens = box_tokens}};
}

KernelSpec spec_of(int bits) {
  return {.format = {.bits = bits, .n = 24, .k = 24}, .m = 3, .target = must(Target::parse("sm_90a"))};
}

TEST(MappedLaunch, GivesTheKernelItsTableAndBoxesOfX) {
  for (const int bits : {1, 4}) {
    const KernelSpec spec = spec_of(bits);
    const Source source = source_of(bits, 4);
    const auto kernel = must(EmulatedKernel::compile(host_compiler(), spec, source));
    Problem problem = make_problem(spec, 3);
    problem.matrix.table.back() = to_bits(2.0F, DataType::f16);
    const std::vector<std::uint16_t> result = must(emulate(kernel, source, problem));
    for (std::size_t i = 0; i < result.size(); ++i) {
      EXPECT_EQ(from_bits(result[i], DataType::f16), 2 * from_bits(problem.activations[i], DataType::f16))
          << bits << " bits, element " << i;
    }
  }
}

TEST(MappedLaunch, OfARecipeWithoutBoxesIsReportedWhereTheKernelCopiesThem) {
  const KernelSpec spec = spec_of(4);
  const Source source = source_of(4, 0);
  const auto kernel = must(EmulatedKernel::compile(host_compiler(), spec, source));
  const auto ran = emulate(kernel, source, make_problem(spec, 3));
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().code, ErrorCode::kernel_fault);
  EXPECT_NE(ran.error().message.find("uses a tensor map that nobody has made"), std::string::npos)
      << ran.error().message;
}

}  // namespace
}  // namespace lutsmith::emulator_test
