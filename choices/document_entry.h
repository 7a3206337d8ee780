#pragma once

#include <optional>

#include "cache/bundles/bundle.h"
#include "cache/entry.h"
#include "cache/key.h"
#include "choices/document.h"
#include "lutsmith/error.h"

// A document as an entry of a bundle or a server, so that it travels beside kernels, and as they do. Its
// payload is the text of the document, its manifest
//
//   {"key": "...", "schema": 4294967295,
//    "tuned_choices": {"schema": 1, "gpu": "NVIDIA H100 80GB HBM3", "multiprocessors": 132}}
//
// No kernel's manifest has such a schema: a reader that takes the entry for a kernel, takes it for one of a
// later version and leaves it alone.
//
// A bundle has all that is known of a GPU in one entry. A server has an entry for each spec: what two
// machines tuned at once does not meet there, and nothing has to be merged on a server that can only replace.

namespace lutsmith::choices {

/// The key depends on the schema and the GPU alone.
cache::OtherEntry to_entry(const Document& document);

/// The document in an entry; nothing where the entry is something else, such as a kernel. Errors: unsupported
/// for a document of another schema; corrupt_data for one that is damaged or of another GPU than its key.
Result<std::optional<Document>> read_entry(const cache::Key& key, const cache::Entry& entry);

/// Under what key a server has the choice for the token bucket of `spec` on a GPU: depends on the schema, the
/// GPU and the spec alone.
cache::Key key_of(const Gpu& gpu, const KernelSpec& spec);

/// A document with this entry alone, under that key.
cache::OtherEntry to_entry(const Gpu& gpu, const Entry& choice);

/// The choice for a spec in an entry that a server had under key_of. Errors: unsupported for one of a later
/// version of the library; corrupt_data for what is damaged, another's, or something else.
Result<Entry> read_entry(const Gpu& gpu, const KernelSpec& spec, const cache::Entry& entry);

}  // namespace lutsmith::choices
