#include "shard_index.h"

#include <fstream>
#include <span>

#include "output.h"
#include "write_file.h"

namespace lutsmith::tools {
namespace {

Json metadata_of(const std::filesystem::path& index) {
  if (index.empty()) return Json::object();
  std::ifstream file(index, std::ios::binary);
  const Json document = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object() || !document.contains("metadata") || !document["metadata"].is_object()) {
    return Json::object();
  }
  return document["metadata"];
}

}  // namespace

Result<std::string> write_index(const std::filesystem::path& folder, const ShardIndex& index,
                                const std::filesystem::path& original) {
  Json document{{"metadata", metadata_of(original)}, {"weight_map", Json::object()}};
  document["metadata"]["total_size"] = index.total_bytes;
  for (const auto& [tensor, file] : index.files) document["weight_map"][tensor] = file;
  std::string name =
      original.empty() ? std::string("model.safetensors.index.json") : original.filename().string();
  const std::string text = document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (auto written = write_file(folder / name, std::as_bytes(std::span(text))); !written) {
    return std::unexpected(written.error());
  }
  return name;
}

}  // namespace lutsmith::tools
