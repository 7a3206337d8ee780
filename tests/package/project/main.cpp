#include <iostream>

#include "lutsmith/lutsmith.h"

// A program outside the project: asks for the source of a kernel, and is told what is wrong with a bad one.
int main() {
  lutsmith::KernelSpec spec{.format = {.bits = 4, .group = 128, .n = 4096, .k = 4096}};
  spec.target = lutsmith::Target::parse("sm_80").value();
  if (const auto valid = lutsmith::validate(spec); !valid) {
    std::cerr << valid.error().message << '\n';
    return 1;
  }
  spec.format.bits = 9;
  std::cout << lutsmith::validate(spec).error().message << '\n';
  return 0;
}
