#pragma once

#include <curl/curl.h>

#include "lutsmith/error.h"

namespace lutsmith::cache {

// libcurl's own header checks types by macros that name its functions, which are not linked here.
#undef curl_easy_setopt
#undef curl_easy_getinfo

/// The functions of libcurl that are used.
struct CurlApi {
  decltype(&::curl_global_init) global_init = nullptr;
  decltype(&::curl_easy_init) easy_init = nullptr;
  decltype(&::curl_easy_cleanup) easy_cleanup = nullptr;
  decltype(&::curl_easy_reset) easy_reset = nullptr;
  decltype(&::curl_easy_setopt) easy_setopt = nullptr;
  decltype(&::curl_easy_getinfo) easy_getinfo = nullptr;
  decltype(&::curl_easy_perform) easy_perform = nullptr;
  decltype(&::curl_easy_strerror) easy_strerror = nullptr;
  decltype(&::curl_slist_append) slist_append = nullptr;
  decltype(&::curl_slist_free_all) slist_free_all = nullptr;

  /// Opens the library once for the process. Errors: not_found, unsupported.
  static Result<const CurlApi*> open();
};

}  // namespace lutsmith::cache
