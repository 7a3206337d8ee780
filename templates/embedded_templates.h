#pragma once

#include <span>
#include <string_view>

namespace lutsmith {

/// A file of templates/, embedded into the library at build time.
struct TemplateModule {
  std::string_view name;  ///< as it is included: "templates/decode.cuh"
  std::string_view text;
};

std::span<const TemplateModule> embedded_templates();

}  // namespace lutsmith
