#include "cli/standard_descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>

namespace lutsmith::cli {

void fill_standard_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number is the one that is missing. Read-only: writing stays the error that it was.
    if (open("/dev/null", O_RDONLY) == -1) open("/", O_RDONLY | O_DIRECTORY);
  }
}

}  // namespace lutsmith::cli
