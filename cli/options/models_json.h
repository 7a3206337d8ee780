#pragma once

#include <string_view>

namespace lutsmith::cli {

/// The text of models.json, embedded at build time.
std::string_view models_json();

}  // namespace lutsmith::cli
