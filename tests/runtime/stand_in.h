#pragma once

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <string_view>

#include "fake_driver.h"
#include "runtime/driver.h"

namespace lutsmith {

/// The stand-in driver, opened once for all tests of the program.
class StandIn {
 public:
  static const cuda::Driver& driver() {
    static const cuda::Driver* const opened = [] {
      const std::array<std::string_view, 1> names = {FAKE_DRIVER};
      const auto loaded = cuda::Driver::load(names);
      if (!loaded) std::abort();
      return *loaded;
    }();
    return *opened;
  }

  static FakeDriverState& state() {
    static FakeDriverState* const found = [] {
      void* library = dlopen(FAKE_DRIVER, RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) std::abort();
      return reinterpret_cast<decltype(&fake_driver_state)>(dlsym(library, "fake_driver_state"))();
    }();
    return *found;
  }
};

}  // namespace lutsmith
