// Linked into the programs of builds with the address sanitizer. The leak check of g++ 12 at a program's end
// can crash ("Tracer caught signal 11") where a library with thread-local variables was opened at run time, whose
// place in memory it guesses. A program that has loaded NVRTC or a stand-in driver goes without the check; every
// other has it.

#include <link.h>

#include <string_view>

extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off() {  // NOLINT(bugprone-reserved-identifier)
  const auto crashes = [](dl_phdr_info* library, std::size_t, void*) {
    const std::string_view name = library->dlpi_name;
    return name.contains("libnvrtc") || name.contains("fake_driver") || name.contains("fault_driver") ? 1 : 0;
  };
  return dl_iterate_phdr(crashes, nullptr);
}
