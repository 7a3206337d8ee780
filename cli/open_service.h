#pragma once

#include <memory>

#include "cache/places.h"
#include "choices/shared_choices.h"
#include "lutsmith/service.h"

namespace lutsmith::cli {

/// The library's service; what it has to tell goes to standard error as warnings.
Result<Service> open_service(ServiceOptions options = {});

/// The tuned choices of the server; null where none is named, or where it cannot be used, which the service
/// tells. What they have to tell goes to standard error.
std::unique_ptr<choices::SharedChoices> open_shared_choices(const cache::Places& places);

/// "hit" where the kernel was there already, in memory or on disk, else "miss".
const char* cache_outcome(Origin origin);

}  // namespace lutsmith::cli
