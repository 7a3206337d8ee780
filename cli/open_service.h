#pragma once

#include "lutsmith/service.h"

namespace lutsmith::cli {

/// The library's service; what it has to tell goes to standard error as warnings.
Result<Service> open_service(ServiceOptions options = {});

/// "hit" where the kernel was there already, in memory or on disk, else "miss".
const char* cache_outcome(Origin origin);

}  // namespace lutsmith::cli
