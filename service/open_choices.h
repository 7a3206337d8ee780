#pragma once

#include <memory>
#include <optional>

#include "choices/shared_choices.h"
#include "choices/source.h"
#include "lutsmith/service.h"
#include "service/open_store.h"

namespace lutsmith {

struct OpenedChoices {
  std::shared_ptr<choices::Source> source;
  /// Where what is tuned is kept; nothing in modes that neither use nor make it.
  std::optional<choices::Database> database;
  std::shared_ptr<choices::SharedChoices> shared;  ///< those of the server; null: none, or not to be used
  std::optional<choices::Gpu> gpu;                 ///< that `options.gpu` names
  bool tunes = false;                              ///< `prepare` measures what is missing
};

/// Where choices come from. Errors: a document that is to be replayed and cannot be, a GPU that is not known.
Result<OpenedChoices> open_choices(const TuningOptions& options, const OpenedStore& store,
                                   const LogCallback& log);

}  // namespace lutsmith
