#include "lambda_kernels.h"

#include <gtest/gtest.h>

namespace lutsmith::emulator_test {

std::string fault_of(const GridShape& shape, const Kernel& kernel, const Regions& regions, BlockOrder order) {
  const auto ran = run_grid(shape, regions, order, kernel);
  if (ran) return {};
  EXPECT_EQ(ran.error().code, ErrorCode::kernel_fault);
  return ran.error().message + "\n" + ran.error().context;
}

void begin(Machine& machine, int line) {
  machine.integer_poison = 0xdeadbeef;
  machine.float_poison = 0xdeadbeef;
  machine.has_integer_poison = true;
  machine.has_float_poison = true;
  machine.line = line;
}

void store(Machine& machine, int byte, std::uint32_t value) {
  machine.store_shared(machine.dynamic_shared() + byte, &value, sizeof(value));
}

std::uint32_t load(Machine& machine, int byte) {
  std::uint32_t value = 0;
  machine.load_shared(&value, machine.dynamic_shared() + byte, sizeof(value));
  return value;
}

}  // namespace lutsmith::emulator_test
