#include "measure/streaming_floor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>

#include "core/result.h"
#include "runtime/nvrtc.h"
#include "runtime/nvrtc_search.h"
#include "templates/embedded_templates.h"

namespace lutsmith::measure {
namespace {

constexpr std::string_view kTemplate = "templates/streaming_floor.cu";
constexpr const char* kPlainKernel = "streaming_floor";
constexpr const char* kDependentKernel = "streaming_floor_dependent";
constexpr std::size_t kVectorBytes = 16;
constexpr int kThreads = 512;

Result<std::string> floor_source() {
  for (const EmbeddedFile& file : embedded_templates()) {
    if (file.name == kTemplate) return std::string(file.text);
  }
  return std::unexpected(
      Error{ErrorCode::not_found, fmt::format("{} is missing from this build", kTemplate), ""});
}

}  // namespace

std::string describe(const FloorVariant& variant) {
  return fmt::format("{} x {} threads per SM{}", variant.blocks_per_multiprocessor, kThreads,
                     variant.dependent ? ", dependent launch" : "");
}

Result<std::vector<std::byte>> compile_streaming_floor(const Target& target) {
  Result<std::string> source = floor_source();
  if (!source) return failure(source);
  Result<std::unique_ptr<Nvrtc>> nvrtc = Nvrtc::open(nvrtc_places(NvrtcEnvironment::of_process({})));
  if (!nvrtc) return failure(nvrtc);
  Result<CompiledKernel> compiled = (*nvrtc)->compile(*source, target, kPlainKernel);
  if (!compiled) return failure(compiled);
  return std::move(compiled->cubin);
}

Result<StreamingFloor> StreamingFloor::create(Device& device, std::span<const std::byte> cubin,
                                              bool dependent_launch) {
  StreamingFloor floor;
  floor.multiprocessors_ = device.facts().multiprocessors;
  floor.dependent_launch_ = dependent_launch;
  Result<std::unique_ptr<DeviceKernel>> plain = device.load(cubin, kPlainKernel);
  if (!plain) return failure(plain);
  floor.plain_ = std::move(*plain);
  Result<std::unique_ptr<DeviceKernel>> dependent = device.load(cubin, kDependentKernel);
  if (!dependent) return failure(dependent);
  floor.dependent_ = std::move(*dependent);
  Result<std::unique_ptr<Memory>> sink = device.allocate(sizeof(unsigned int));
  if (!sink) return failure(sink);
  floor.sink_ = std::move(*sink);
  return floor;
}

std::vector<FloorVariant> StreamingFloor::variants() const {
  std::vector<FloorVariant> result;
  for (const bool dependent : {false, true}) {
    if (dependent && !dependent_launch_) continue;
    for (const int blocks : {1, 2, 4}) result.push_back({dependent, blocks});
  }
  return result;
}

Result<void> StreamingFloor::launch(const FloorVariant& variant, const std::byte* data,
                                    std::size_t bytes) const {
  auto address = reinterpret_cast<cuda::DevicePointer>(data);
  auto vectors = static_cast<long long>(bytes / kVectorBytes);
  cuda::DevicePointer sink = sink_->address();
  std::array<void*, 3> parameters{&address, &vectors, &sink};
  // No more blocks than have a vector to read.
  const long long useful = std::max(1LL, (vectors + kThreads - 1) / kThreads);
  const long long blocks = std::min<long long>(
      useful, static_cast<long long>(multiprocessors_) * variant.blocks_per_multiprocessor);
  const cuda::LaunchConfiguration configuration{.grid_x = static_cast<unsigned int>(blocks),
                                                .block_x = static_cast<unsigned int>(kThreads),
                                                .attributes = &cuda::kDependentLaunch,
                                                .attribute_count = variant.dependent ? 1U : 0U};
  return (variant.dependent ? dependent_ : plain_)->launch(configuration, parameters.data());
}

Result<std::vector<Contender>> floor_contenders(Device& device, const StreamingFloor& floor,
                                                const RotatingPool& pool, std::size_t bytes) {
  std::vector<Contender> contenders;
  for (const FloorVariant& variant : floor.variants()) {
    Result<Contender> contender =
        make_contender(device, describe(variant), pool.rotation().launches,
                       [&](int launch) { return floor.launch(variant, pool.copy_for(launch), bytes); });
    if (!contender) return failure(contender);
    contenders.push_back(std::move(*contender));
  }
  return contenders;
}

FloorTimes fastest(std::span<const FloorVariant> variants, std::span<const double> microseconds) {
  std::optional<FloorTime> plain;
  std::optional<FloorTime> dependent;
  for (std::size_t i = 0; i < variants.size(); ++i) {
    std::optional<FloorTime>& best = variants[i].dependent ? dependent : plain;
    if (!best || microseconds[i] < best->microseconds) best = {microseconds[i], describe(variants[i])};
  }
  return {.plain = plain.value_or(FloorTime{}), .dependent = dependent};
}

}  // namespace lutsmith::measure
