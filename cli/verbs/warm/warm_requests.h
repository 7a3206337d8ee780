#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "choices/database.h"
#include "choices/shared_choices.h"
#include "cli/options/spec_options.h"
#include "cli/options/spec_request.h"
#include "lutsmith/error.h"

namespace lutsmith::cli {

/// All kernels that a call of `warm` asks for: those of the manifest, where one is named, and those of the
/// command line, whose values the manifest's entries inherit. Errors: invalid_argument, not_found.
Result<std::vector<KernelRequest>> warm_requests(const SpecOptions& options, const std::string& manifest);

/// One request for each kernel: those that come out as the same kernel are merged, so that no two parts of
/// the work compile one twice.
Result<std::vector<KernelRequest>> without_duplicates(const std::vector<KernelRequest>& requests);

/// The requests, and behind each that names no schedule one for every choice that was tuned for its spec: a
/// machine without a GPU makes what those with one will ask for. `gpu` is all or a part of a GPU's name whose
/// choices alone count; empty: those of all GPUs that `database` knows. `shared`: those of a server; may be
/// null. Errors: of `choices::Database::find_gpu`.
Result<std::vector<KernelRequest>> with_tuned_choices(const std::vector<KernelRequest>& requests,
                                                      const choices::Database& database,
                                                      const std::string& gpu,
                                                      std::shared_ptr<choices::SharedChoices> shared);

/// Part `index` (from 1) of `count` equal parts of the work.
struct WorkPart {
  std::size_t index = 1;
  std::size_t count = 1;
};

/// From "2/4". Error: invalid_argument.
Result<WorkPart> parse_shard(const std::string& text);

std::vector<KernelRequest> part_of(const std::vector<KernelRequest>& requests, WorkPart part);

}  // namespace lutsmith::cli
