#include "small_checkpoint.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "command_line.h"

namespace lutsmith::tests {

std::vector<float> wavy_values(std::size_t count, float size) {
  std::vector<float> result(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto x = static_cast<double>(i);
    result[i] = static_cast<float>(std::sin(x * 1.7) * std::cos(x * 0.013)) * size;
  }
  return result;
}

void write_checkpoint(const std::filesystem::path& path, const std::vector<SmallTensor>& tensors) {
  nlohmann::json header;
  std::string data;
  for (const SmallTensor& tensor : tensors) {
    std::string bytes(tensor.values.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), tensor.values.data(), bytes.size());
    header[tensor.name] = {{"dtype", "F32"},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t size = text.size();
  std::string file(sizeof(size), '\0');
  std::memcpy(file.data(), &size, sizeof(size));
  write_file(path, file + text + data);
}

}  // namespace lutsmith::tests
