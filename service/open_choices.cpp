#include "service/open_choices.h"

#include <string_view>
#include <utility>

#include "core/result.h"

namespace lutsmith {
namespace {

Result<std::shared_ptr<choices::Source>> open_replay(const TuningOptions& options) {
  if (options.document.empty()) {
    return refuse("tuning: a replay needs a document; name it with LUTSMITH_TUNING_FILE");
  }
  Result<choices::Document> document = choices::read_document(options.document);
  if (!document) return failure(document);
  const bool strict = options.missing.value_or(MissingChoice::error) == MissingChoice::error;
  return std::make_shared<choices::PinnedSource>(*std::move(document),
                                                 strict ? choices::Missing::error : choices::Missing::model);
}

}  // namespace

Result<OpenedChoices> open_choices(const TuningOptions& options, const OpenedStore& store,
                                   const LogCallback& log) {
  OpenedChoices opened;
  const TuningMode mode = options.mode.value_or(TuningMode::use);
  if (mode == TuningMode::off) {
    opened.source = std::make_shared<choices::ModelSource>();
    return opened;
  }
  if (mode == TuningMode::replay) {
    Result<std::shared_ptr<choices::Source>> source = open_replay(options);
    if (!source) return failure(source);
    opened.source = *std::move(source);
    return opened;
  }
  opened.tunes = mode == TuningMode::tune;
  opened.database.emplace(store.directory, store.system_directories);
  if (!options.gpu.empty()) {
    Result<choices::Gpu> gpu = opened.database->find_gpu(options.gpu);
    if (!gpu) return failure(gpu);
    opened.gpu = *std::move(gpu);
  }
  const choices::Complain complain = [log](std::string_view text) {
    if (log) log(LogLevel::warning, text);
  };
  if (store.remote != nullptr) {
    opened.shared = std::make_shared<choices::SharedChoices>(store.remote, complain);
  }
  opened.source = std::make_shared<choices::TunedSource>(*opened.database, complain, opened.shared);
  return opened;
}

}  // namespace lutsmith
