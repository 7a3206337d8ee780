#include <iostream>
#include <string_view>

#include "lutsmith.h"
#include "lutsmith/lutsmith.h"

// A program outside the project: asks for the source of a kernel, and is told what is wrong with a bad one.
int main() {
  if (lutsmith_version() != std::string_view(LUTSMITH_VERSION_STRING)) return 1;
  lutsmith::KernelSpec spec{.format = {.bits = 4, .group = 128, .n = 4096, .k = 4096}, .m = 1};
  spec.target = lutsmith::Target::parse("sm_80").value();
  if (const auto valid = lutsmith::validate(spec); !valid) {
    std::cerr << valid.error().message << '\n';
    return 1;
  }
  spec.format.bits = 9;
  std::cout << lutsmith::validate(spec).error().message << '\n';
  return 0;
}
