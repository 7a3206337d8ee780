#pragma once

namespace lutsmith::cli {

/// Opens something that cannot be written on each of descriptors 0, 1 and 2 that is closed. Otherwise the
/// next file to be opened would get such a number, and messages would be written into it.
void fill_standard_descriptors();

}  // namespace lutsmith::cli
