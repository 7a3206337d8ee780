// Linked into the programs of builds with the address sanitizer. The leak check of g++ 12 at a program's end
// can crash ("Tracer caught signal 11") where NVRTC's threads are just ending, so a program that has loaded
// NVRTC goes without it; every other has it.

#include <link.h>

#include <string_view>

extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off() {  // NOLINT(bugprone-reserved-identifier)
  const auto is_nvrtc = [](dl_phdr_info* library, std::size_t, void*) {
    return std::string_view(library->dlpi_name).contains("libnvrtc") ? 1 : 0;
  };
  return dl_iterate_phdr(is_nvrtc, nullptr);
}
