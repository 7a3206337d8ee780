#pragma once

#include <filesystem>

#include "seeds.h"

namespace lutsmith::fuzz {

// A finding ends the program, so each input's name is printed before it is handed to the harness that the
// program is linked with.

/// Fails the test where the folder holds no file.
void replay_folder(const std::filesystem::path& folder);

void replay_seeds(const Seeds& seeds);

}  // namespace lutsmith::fuzz
