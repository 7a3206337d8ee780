#include "cli/verbs/report/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cache/places.h"
#include "choices/database.h"
#include "cli/output/output.h"
#include "cli/verbs/cache/cache_access.h"
#include "core/result.h"

namespace lutsmith::cli {

Result<choices::Document> read_choices(const std::string& path) {
  Result<choices::Document> document = choices::read_document(path);
  if (!document && document.error().code == ErrorCode::corrupt_data) {
    document.error().context =
        "a report is made of documents of tuned choices, which `lutsmith tune` writes, or of what "
        "`lutsmith bench --json` prints";
  }
  return document;
}

Result<TunedDocuments> read_documents(const std::vector<std::string>& paths) {
  TunedDocuments read;
  for (const std::string& path : paths) {
    Result<choices::Document> document = read_choices(path);
    if (!document) return failure(document);
    if (document->unread() > 0) {
      print_warning(path + ": " +
                    fmt::format("{} passed over", document->unread() == 1
                                                      ? "an entry is"
                                                      : fmt::format("{} entries are", document->unread())) +
                    ", which this version of lutsmith cannot read");
    }
    const auto same = std::ranges::find(read.documents, document->gpu(), &choices::Document::gpu);
    if (same != read.documents.end()) {
      same->merge(*document);
    } else {
      read.documents.push_back(*std::move(document));
    }
    read.sources.push_back(path);
  }
  return read;
}

TunedDocuments known_documents() {
  const cache::Places places = cache::places(cache::PlacesEnvironment::of_process());
  for (const std::string& complaint : places.complaints) print_warning(complaint);
  std::filesystem::path own;
  if (const auto store = open_own_directory(places, cache::Access::read_only)) own = (*store)->root();
  const choices::Database database(own, places.system);
  return {.documents = database.read_all([](std::string_view text) { print_warning(std::string(text)); }),
          .sources = {"the kernel cache and what comes with lutsmith"}};
}

}  // namespace lutsmith::cli
