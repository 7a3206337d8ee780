#pragma once

#include <span>

#include "core/embedded_file.h"

namespace lutsmith {

/// The page's own files by their names, such as "page.html", and Vega's scripts, such as "vega-util.min.js"
/// (in the order in which a page needs them).
std::span<const EmbeddedFile> page_files();

}  // namespace lutsmith
