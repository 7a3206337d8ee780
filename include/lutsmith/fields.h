#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

namespace lutsmith {

/// What there is to say of one field of a spec or a schedule. Each of those has one list of its fields, its
/// `visit_fields`; hashes, JSON, command-line options, descriptions and the command that warms a kernel
/// follow from it.
struct FieldInfo {
  std::string_view name;     ///< in JSON and in errors: "tile_rows"
  std::string_view meaning;  ///< "Output channels of a tile"
  std::string_view allowed;  ///< "16 or 32"
  /// The field's part of a description, with what separates it from the part before: ", rows {}". {} is the
  /// value, {s} an s behind every number but 1. A switch is described only where it is on.
  std::string_view described;
  std::string_view option =
      {};                      ///< on the command line, where it is not the name with dashes: "blocks-per-sm"
  std::string_view zero = {};  ///< the word for a 0: "channel"
  /// A field that is written only where it has another value than its initial one, so that what was written
  /// before there was one, and the keys made of that, stay as they are.
  bool only_where_set = false;
};

/// Calls `visit(FieldInfo, value)` for every field of a spec or schedule, `value` a reference to it, const
/// where `object` is.
template <class Object, class Visit>
constexpr void visit_fields(Object& object, Visit&& visit) {
  std::remove_const_t<Object>::visit_fields(object, std::forward<Visit>(visit));
}

}  // namespace lutsmith
