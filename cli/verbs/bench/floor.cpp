#include "cli/verbs/bench/floor.h"

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

namespace lutsmith::cli {
namespace {

constexpr std::string_view kTemplate = "templates/streaming_floor.cu";
constexpr const char* kPlainKernel = "streaming_floor";
constexpr const char* kDependentKernel = "streaming_floor_dependent";
constexpr std::size_t kVectorBytes = 16;

Result<std::string> floor_source() {
  for (const EmbeddedFile& file : embedded_templates()) {
    if (file.name == kTemplate) return std::string(file.text);
  }
  return std::unexpected(
      Error{ErrorCode::not_found, fmt::format("{} is missing from this build", kTemplate), ""});
}

Result<std::vector<std::byte>> compile_floor(const Target& target) {
  Result<std::string> source = floor_source();
  if (!source) return failure(source);
  Result<std::unique_ptr<Nvrtc>> nvrtc = Nvrtc::open(nvrtc_places(NvrtcEnvironment::of_process({})));
  if (!nvrtc) return failure(nvrtc);
  Result<CompiledKernel> compiled = (*nvrtc)->compile(*source, target, kPlainKernel);
  if (!compiled) return failure(compiled);
  return std::move(compiled->cubin);
}

}  // namespace

std::string describe(const FloorVariant& variant) {
  return fmt::format("{} x {} threads per SM{}", variant.blocks_per_multiprocessor, variant.threads,
                     variant.dependent ? ", dependent launch" : "");
}

Result<StreamingFloor> StreamingFloor::create(const cuda::Driver& driver, const Target& target,
                                              const cuda::DeviceFacts& gpu) {
  Result<std::vector<std::byte>> cubin = compile_floor(target);
  if (!cubin) return failure(cubin);
  StreamingFloor floor;
  floor.driver_ = &driver;
  floor.multiprocessors_ = gpu.multiprocessors;
  floor.dependent_launch_ = target.traits().dependent_launch;
  Result<cuda::Module> module = cuda::Module::load(driver, *cubin);
  if (!module) return failure(module);
  floor.module_ = std::move(*module);
  Result<cuda::FunctionHandle> plain = floor.module_.function(kPlainKernel);
  if (!plain) return failure(plain);
  floor.plain_ = *plain;
  Result<cuda::FunctionHandle> dependent = floor.module_.function(kDependentKernel);
  if (!dependent) return failure(dependent);
  floor.dependent_ = *dependent;
  Result<cuda::Buffer> sink = cuda::Buffer::allocate(driver, sizeof(unsigned int));
  if (!sink) return failure(sink);
  floor.sink_ = std::move(*sink);
  return floor;
}

std::vector<FloorVariant> StreamingFloor::variants() const {
  std::vector<FloorVariant> result;
  for (const bool dependent : {false, true}) {
    if (dependent && !dependent_launch_) continue;
    for (const int blocks : {1, 2, 4}) result.push_back({dependent, blocks, 512});
  }
  return result;
}

Result<void> StreamingFloor::launch(const FloorVariant& variant, cuda::DevicePointer data, std::size_t bytes,
                                    const cuda::Stream& stream) const {
  auto vectors = static_cast<long long>(bytes / kVectorBytes);
  cuda::DevicePointer sink = sink_.address();
  std::array<void*, 3> parameters{&data, &vectors, &sink};
  // No more blocks than have a vector to read.
  const long long useful = std::max(1LL, (vectors + variant.threads - 1) / variant.threads);
  const long long blocks = std::min<long long>(
      useful, static_cast<long long>(multiprocessors_) * variant.blocks_per_multiprocessor);
  const cuda::Launch launch{.grid = {static_cast<unsigned int>(blocks), 1, 1},
                            .block = {static_cast<unsigned int>(variant.threads), 1, 1},
                            .dynamic_shared_bytes = 0,
                            .stream = stream.get(),
                            .dependent = variant.dependent};
  return driver_->launch(variant.dependent ? dependent_ : plain_, launch, parameters.data());
}

}  // namespace lutsmith::cli
