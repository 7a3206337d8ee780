#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lutsmith::cli {

/// Every LUTSMITH_ variable that the library, the command line or the scripts read.
std::span<const std::string_view> known_variables();

/// What is wrong with the LUTSMITH_ variables of an environment ("NAME=value" each), a sentence for each:
/// names that nothing reads, with the one that was meant where that can be guessed, and values that cannot be
/// used. Without those that `cache::places` complains of. Looks at files, and changes none.
std::vector<std::string> environment_complaints(std::span<const std::string> environment);

/// The environment of this process, "NAME=value" each.
std::vector<std::string> process_environment();

}  // namespace lutsmith::cli
