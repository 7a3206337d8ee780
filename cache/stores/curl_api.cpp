#include "cache/stores/curl_api.h"

#include "core/shared_library.h"

namespace lutsmith::cache {
namespace {

Result<CurlApi> load() {
  Result<core::SharedLibrary> library = core::SharedLibrary::open({"libcurl.so.4", "libcurl-gnutls.so.4"},
                                                                  "share kernels over a network", "libcurl4");
  if (!library) return std::unexpected(std::move(library.error()));
  CurlApi api;
  library->load("curl_global_init", api.global_init);
  library->load("curl_easy_init", api.easy_init);
  library->load("curl_easy_cleanup", api.easy_cleanup);
  library->load("curl_easy_reset", api.easy_reset);
  library->load("curl_easy_setopt", api.easy_setopt);
  library->load("curl_easy_getinfo", api.easy_getinfo);
  library->load("curl_easy_perform", api.easy_perform);
  library->load("curl_easy_strerror", api.easy_strerror);
  library->load("curl_slist_append", api.slist_append);
  library->load("curl_slist_free_all", api.slist_free_all);
  if (Result<void> complete = library->complete(); !complete) return std::unexpected(complete.error());
  if (api.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
    return std::unexpected(Error{ErrorCode::unsupported, "libcurl could not be set up", ""});
  }
  return api;
}

}  // namespace

Result<const CurlApi*> CurlApi::open() {
  static const Result<CurlApi> api = load();
  if (!api) return std::unexpected(api.error());
  return &*api;
}

}  // namespace lutsmith::cache
