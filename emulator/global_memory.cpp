#include "emulator/global_memory.h"

#include <fmt/format.h>

#include <cstring>

#include "emulator/fault.h"

namespace lutsmith::emulator {
namespace {

constexpr const char* kNames[] = {"the weights",          "the activations", "the output", "the partial sums",
                                  "the arrival counters", "the residual",    "the bias"};

std::size_t index(Region region) { return static_cast<std::size_t>(region); }

}  // namespace

GlobalMemory::GlobalMemory(const Regions& regions)
    : regions_{regions.weights,  regions.activations, regions.output, regions.partial_sums,
               regions.arrivals, regions.residual,    regions.bias},
      output_element_bytes_(regions.output_element_bytes),
      output_written_(regions.output.size() / output_element_bytes_),
      partial_sums_(regions.partial_sums.size() / sizeof(float)) {}

std::size_t GlobalMemory::offset_of(Region region, const void* pointer, std::size_t bytes,
                                    std::size_t alignment) const {
  const std::span<const std::byte> memory = regions_[index(region)];
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  const auto offset = address - reinterpret_cast<std::uintptr_t>(memory.data());
  if (offset > memory.size() || bytes > memory.size() - offset) {
    throw Fault(fmt::format("touches {} bytes at byte {} of {}, whose size is {}", bytes,
                            static_cast<std::intptr_t>(offset), kNames[index(region)], memory.size()));
  }
  if (address % alignment != 0) {
    throw Fault(fmt::format("touches {} bytes at byte {} of {}, an address that is no multiple of {}", bytes,
                            offset, kNames[index(region)], alignment));
  }
  return offset;
}

/// Whether what was written is known to have happened before.
bool GlobalMemory::knows(const Actor& actor, const Write& write) {
  if (write.cluster == actor.cluster) {
    return write.stamp.who == actor.stamp.who || happened_before(write.stamp, *actor.clock);
  }
  const auto known = actor.foreign->find(write.cluster);
  return known != actor.foreign->end() && happened_before(write.stamp, *known->second);
}

void GlobalMemory::load(Region region, void* to, const void* from, std::size_t bytes,
                        const Actor& actor) const {
  const std::size_t offset = offset_of(region, from, bytes, bytes);
  if (region == Region::partial_sums) {
    for (std::size_t i = offset / sizeof(float); i < (offset + bytes) / sizeof(float); ++i) {
      const Write& write = partial_sums_[i];
      if (write.cluster < 0) throw Fault(fmt::format("reads partial sum {}, which nobody has written", i));
      if (!knows(actor, write)) {
        throw Fault(
            fmt::format("reads partial sum {} that thread {} of block {} wrote at line {}, with nothing that "
                        "orders the two",
                        i, write.thread, write.block, write.stamp.line));
      }
    }
  }
  const std::span<const std::byte> output = regions_[index(Region::output)];
  if (region == Region::residual && regions_[index(region)].data() == output.data()) {
    for (std::size_t i = offset / output_element_bytes_; i < (offset + bytes) / output_element_bytes_; ++i) {
      if (output_written_[i])
        throw Fault(fmt::format("reads element {} of the residual after it was written", i));
    }
  }
  std::memcpy(to, from, bytes);
}

void GlobalMemory::store(Region region, void* to, const void* from, std::size_t bytes, const Actor& actor) {
  const std::size_t offset = offset_of(region, to, bytes, bytes);
  if (region == Region::output) {
    for (std::size_t i = offset / output_element_bytes_; i < (offset + bytes) / output_element_bytes_; ++i) {
      if (output_written_[i]) throw Fault(fmt::format("writes element {} of the output a second time", i));
      output_written_[i] = true;
    }
  }
  if (region == Region::partial_sums) {
    for (std::size_t i = offset / sizeof(float); i < (offset + bytes) / sizeof(float); ++i) {
      Write& last = partial_sums_[i];
      if (last.cluster >= 0 && !knows(actor, last)) {
        throw Fault(fmt::format(
            "writes partial sum {} that thread {} of block {} wrote at line {}, with nothing that "
            "orders the two",
            i, last.thread, last.block, last.stamp.line));
      }
      last = {actor.cluster, actor.block, actor.thread, actor.stamp};
    }
  }
  std::memcpy(to, from, bytes);
}

void GlobalMemory::check_copy(Region region, const void* from, std::size_t bytes,
                              std::size_t alignment) const {
  offset_of(region, from, bytes, alignment);
}

std::uint32_t GlobalMemory::count_arrival(std::uint32_t* counter, const Actor& actor,
                                          ForeignClocks& learned) {
  offset_of(Region::arrivals, counter, sizeof(*counter), sizeof(*counter));
  ForeignClocks& released = released_[counter];
  learn(learned, released);
  learn(released, *actor.foreign);
  learn(released, {{actor.cluster, std::make_shared<const Clock>(*actor.clock)}});
  return (*counter)++;
}

void GlobalMemory::check_arrivals() const {
  const std::span<const std::byte> memory = regions_[index(Region::arrivals)];
  for (std::size_t i = 0; i < memory.size() / sizeof(std::uint32_t); ++i) {
    std::uint32_t count = 0;
    std::memcpy(&count, memory.data() + i * sizeof(count), sizeof(count));
    if (count != 0) throw Fault(fmt::format("leaves arrival counter {} at {} after the launch", i, count));
  }
}

}  // namespace lutsmith::emulator
