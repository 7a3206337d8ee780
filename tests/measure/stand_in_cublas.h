#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "fake_cublas.h"
#include "lutsmith/float16.h"
#include "measure/cublas.h"
#include "simulated_device.h"

namespace lutsmith::test {

/// The stand-in for cuBLAS, in its first state while this lives.
class StandInCublas {
 public:
  StandInCublas() { state() = {}; }
  StandInCublas(const StandInCublas&) = delete;
  StandInCublas& operator=(const StandInCublas&) = delete;
  ~StandInCublas() { state() = {}; }

  static FakeCublasState& state() {
    static FakeCublasState* const found = [] {
      void* library = dlopen(FAKE_CUBLAS, RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) throw std::runtime_error("no " FAKE_CUBLAS);
      return reinterpret_cast<decltype(&fake_cublas_state)>(dlsym(library, "fake_cublas_state"))();
    }();
    return *found;
  }

  static std::vector<measure::CublasPlace> places() {
    return {{.cublas_lt = FAKE_CUBLAS, .cublas = FAKE_CUBLAS}};
  }

  /// It puts the product on `device`, times `factor`.
  static void multiply_on(SimulatedDevice& device, DataType dtype, float factor = 1) {
    state().multiply = [&device, dtype, factor](const FakeProduct& product) {
      [[maybe_unused]] const auto enqueued =
          device.enqueue_work([=] { multiply_on_host(product, dtype, factor); });
    };
  }

 private:
  static void multiply_on_host(const FakeProduct& product, DataType dtype, float factor) {
    const auto* a = static_cast<const std::uint16_t*>(product.a);
    const auto* b = static_cast<const std::uint16_t*>(product.b);
    auto* c = static_cast<std::uint16_t*>(product.c);
    for (int column = 0; column < product.columns; ++column) {
      for (int row = 0; row < product.rows; ++row) {
        float sum = 0;
        for (int i = 0; i < product.depth; ++i) {
          sum +=
              from_bits(a[row * product.depth + i], dtype) * from_bits(b[column * product.depth + i], dtype);
        }
        c[column * product.rows + row] = to_bits(factor * sum, dtype);
      }
    }
  }
};

}  // namespace lutsmith::test
