#pragma once

#include <string>
#include <vector>

#include "choices/document.h"
#include "lutsmith/error.h"

namespace lutsmith::cli {

/// Documents of tuned choices, one for each model of GPU, and where they are from.
struct TunedDocuments {
  std::vector<choices::Document> documents;
  std::vector<std::string> sources;  ///< for people: paths as they were given, or a few words
};

/// Reads a file. Errors: those of choices::read_document; they say what a report is made of.
Result<choices::Document> read_choices(const std::string& path);

/// Reads files; where several have an entry for one spec on one GPU, the one measured last counts. Errors:
/// those of read_choices.
Result<TunedDocuments> read_documents(const std::vector<std::string>& paths);

/// What this machine's kernel cache has and what comes with lutsmith, as a service would use it. What cannot
/// be used is told as a warning.
TunedDocuments known_documents();

}  // namespace lutsmith::cli
