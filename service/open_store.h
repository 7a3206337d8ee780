#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "cache/stores/store.h"
#include "lutsmith/service.h"

namespace lutsmith {

struct OpenedStore {
  std::unique_ptr<cache::Store> store;                         ///< null where kernels are kept in memory only
  std::filesystem::path directory;                             ///< the user's; empty where there is none
  std::vector<std::filesystem::path> system_directories = {};  ///< those that are only read and can be used
  std::shared_ptr<cache::Store> remote = {};                   ///< the server, a tier of `store`; null: none
};

/// The tiers that options and environment name. What cannot be used is left out and `options.log` is told
/// why: a broken cache must not stop anybody.
OpenedStore open_store(const ServiceOptions& options);

}  // namespace lutsmith
