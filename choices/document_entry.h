#pragma once

#include <optional>

#include "cache/bundles/bundle.h"
#include "cache/entry.h"
#include "cache/key.h"
#include "choices/document.h"
#include "lutsmith/error.h"

// A document as an entry of a bundle, so that it travels beside kernels, signed as they are. Its payload is the
// text of the document, its manifest
//
//   {"key": "...", "schema": 4294967295,
//    "tuned_choices": {"schema": 1, "gpu": "NVIDIA H100 80GB HBM3", "multiprocessors": 132}}
//
// No kernel's manifest has such a schema: a reader that takes the entry for a kernel, takes it for one of a
// later version and leaves it alone.

namespace lutsmith::choices {

/// The key depends on the schema and the GPU alone.
cache::OtherEntry to_entry(const Document& document);

/// The document in an entry; nothing where the entry is something else, such as a kernel. Errors: unsupported
/// for a document of another schema; corrupt_data for one that is damaged or of another GPU than its key.
Result<std::optional<Document>> read_entry(const cache::Key& key, const cache::Entry& entry);

}  // namespace lutsmith::choices
