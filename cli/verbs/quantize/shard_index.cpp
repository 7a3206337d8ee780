#include "cli/verbs/quantize/shard_index.h"

#include <span>

#include "cli/output/output.h"
#include "cli/output/write_file.h"

namespace lutsmith::cli {

Result<std::string> write_index(const std::filesystem::path& folder, const ShardIndex& index,
                                const Checkpoint& original) {
  Json document{{"metadata", Json::parse(original.index_metadata())}, {"weight_map", Json::object()}};
  document["metadata"]["total_size"] = index.total_bytes;
  for (const auto& [tensor, file] : index.files) document["weight_map"][tensor] = file;
  const std::string usual = "model.safetensors.index.json";
  std::string name = original.index().empty() ? usual : original.index().filename().string();
  const std::string text = document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (auto written = write_file(folder / name, std::as_bytes(std::span(text))); !written) {
    return std::unexpected(written.error());
  }
  return name;
}

}  // namespace lutsmith::cli
