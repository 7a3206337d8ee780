#include "checkpoint/checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "checkpoint/file_error.h"
#include "checkpoint/foreign_format.h"
#include "checkpoint/safetensors_format.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;
using checkpoint::file_error;
using checkpoint::shown_name;

constexpr std::string_view kFileSuffix = ".safetensors";
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
constexpr const char* kUsualIndex = "model.safetensors.index.json";

using WeightMap = std::map<std::string, std::string>;

struct Index {
  WeightMap weights;  ///< which file holds each tensor
  std::string metadata = "{}";
};

/// A shard lies beside its index: an index from elsewhere must not reach other files.
bool is_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

Result<std::string> read_index(const fs::path& path) {
  constexpr std::uintmax_t kMostBytes = 100'000'000;
  std::error_code error;
  const std::uintmax_t bytes = fs::file_size(path, error);
  if (error) return file_error(ErrorCode::io_error, path, error.message());
  if (bytes > kMostBytes) {
    return file_error(ErrorCode::corrupt_data, path,
                      fmt::format("has {} bytes; an index has at most {}", bytes, kMostBytes));
  }
  std::ifstream stream(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) return file_error(ErrorCode::io_error, path, "cannot be read");
  return text;
}

Result<Index> parse_index(const fs::path& path, const std::string& text) {
  const auto corrupt = [&](std::string_view reason) {
    return file_error(ErrorCode::corrupt_data, path, reason);
  };
  // What is nested deeper would be copied and written by recursion, until the stack ends.
  constexpr int kMaxDepth = 100;
  bool too_deep = false;
  const auto keep = [&too_deep](int depth, nlohmann::json::parse_event_t /*event*/, nlohmann::json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return depth <= kMaxDepth;
  };
  const auto document = nlohmann::json::parse(text, keep, /*allow_exceptions=*/false);
  if (document.is_discarded()) {
    const auto other =
        text.starts_with('{') || text.starts_with('[') ? std::nullopt : checkpoint::recognize_format(text);
    return corrupt(other ? *other : "is no index of a checkpoint: it is not valid JSON");
  }
  if (too_deep) return corrupt(fmt::format("is nested more than {} deep; no index is", kMaxDepth));
  const auto weights = document.is_object() ? document.find("weight_map") : document.end();
  if (weights == document.end() || !weights->is_object()) {
    return corrupt("is no index of a checkpoint: it has no object 'weight_map'");
  }
  Index index;
  for (const auto& [name, shard] : weights->items()) {
    if (!shard.is_string()) {
      return corrupt(fmt::format("weight_map: the file of tensor {} is not text", shown_name(name)));
    }
    const auto& file = shard.get_ref<const std::string&>();
    if (!is_file_name(file)) {
      return corrupt(
          fmt::format("weight_map: tensor {} is in {}, which is not the name of a file beside the index",
                      shown_name(name), shown_name(file)));
    }
    index.weights.emplace(name, file);
  }
  if (index.weights.empty()) return corrupt("names no tensors");
  const auto metadata = document.find("metadata");
  if (metadata != document.end() && metadata->is_object()) index.metadata = metadata->dump();
  return index;
}

/// Names in a folder that end so, sorted; hidden files are none of them.
Result<std::vector<std::string>> names_in(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (!name.starts_with('.')) names.push_back(std::move(name));
  }
  if (error) return file_error(ErrorCode::io_error, folder, error.message());
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> ending_in(const std::vector<std::string>& names, std::string_view suffix) {
  std::vector<std::string> result;
  std::ranges::copy_if(names, std::back_inserter(result),
                       [&](const std::string& name) { return name.ends_with(suffix); });
  return result;
}

std::unexpected<Error> no_checkpoint(const fs::path& folder, const std::vector<std::string>& names) {
  for (const std::string_view suffix : {".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".npz", ".msgpack"}) {
    const auto others = ending_in(names, suffix);
    if (others.empty()) continue;
    return file_error(
        ErrorCode::not_found, folder,
        fmt::format("holds no *.safetensors, but {}; convert it with the Python package safetensors, or "
                    "look for a copy of the checkpoint in that format",
                    shown_name(others.front())));
  }
  return file_error(ErrorCode::not_found, folder,
                    "holds no *.safetensors; give the folder or file of a checkpoint");
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return open_folder(path);
  if (path.extension() == ".json" && fs::is_regular_file(path, ignored)) return open_index(path);
  const std::string name = path.filename().string();
  return open_files(path.parent_path(), {&name, 1});
}

Result<Checkpoint> Checkpoint::open_folder(const fs::path& folder) {
  const auto names = names_in(folder);
  if (!names) return std::unexpected(names.error());
  const auto indices = ending_in(*names, kIndexSuffix);
  if (std::ranges::find(indices, kUsualIndex) != indices.end()) return open_index(folder / kUsualIndex);
  if (indices.size() > 1) {
    return file_error(ErrorCode::invalid_argument, folder,
                      fmt::format("holds {} indices: {}; give the one that is meant", indices.size(),
                                  fmt::join(indices, ", ")));
  }
  if (!indices.empty()) return open_index(folder / indices.front());
  const auto files = ending_in(*names, kFileSuffix);
  if (files.empty()) return no_checkpoint(folder, *names);
  return open_files(folder, files);
}

Result<Checkpoint> Checkpoint::open_index(const fs::path& path) {
  const auto text = read_index(path);
  if (!text) return std::unexpected(text.error());
  auto index = parse_index(path, *text);
  if (!index) return std::unexpected(index.error());
  std::set<std::string> files;
  for (const auto& [tensor, file] : index->weights) files.insert(file);
  const fs::path folder = path.parent_path();
  for (const std::string& file : files) {
    std::error_code ignored;
    if (!fs::exists(folder / file, ignored)) {
      return file_error(
          ErrorCode::not_found, path,
          fmt::format("names the file {}, which is not there; download the rest of the checkpoint",
                      shown_name(file)));
    }
  }
  auto checkpoint = open_files(folder, std::vector(files.begin(), files.end()));
  if (!checkpoint) return checkpoint;
  checkpoint->index_ = path;
  checkpoint->index_metadata_ = std::move(index->metadata);
  for (const auto& [name, file] : index->weights) {
    const auto tensor = checkpoint->tensors_.find(name);
    if (tensor != checkpoint->tensors_.end() && checkpoint->shards_[tensor->second.shard].name == file)
      continue;
    return file_error(
        ErrorCode::corrupt_data, path,
        fmt::format("says that tensor {} is in {}, which does not hold it; index and files are of "
                    "different checkpoints, or the index is out of date",
                    shown_name(name), shown_name(file)));
  }
  return checkpoint;
}

Result<Checkpoint> Checkpoint::open_files(const fs::path& folder, std::span<const std::string> names) {
  Checkpoint checkpoint;
  for (const std::string& name : names) {
    if (const auto added = checkpoint.add_shard(folder, name); !added) return std::unexpected(added.error());
  }
  return checkpoint;
}

Result<void> Checkpoint::add_shard(const fs::path& folder, const std::string& name) {
  auto file = SafetensorsFile::open(folder / name);
  if (!file) return std::unexpected(file.error());
  const std::size_t shard = shards_.size();
  for (const auto& [tensor, info] : file->tensors()) {
    const auto [position, is_new] = tensors_.try_emplace(tensor, CheckpointTensor{shard, info});
    if (is_new) continue;
    return file_error(
        ErrorCode::corrupt_data, folder,
        fmt::format("tensor {} is in both {} and {}; if they are different checkpoints, give the file "
                    "that is meant",
                    shown_name(tensor), shown_name(shards_[position->second.shard].name), shown_name(name)));
  }
  shards_.push_back({name, *std::move(file)});
  return {};
}

}  // namespace lutsmith
