#include "emulator/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "emulator/fault.h"

namespace lutsmith::emulator {

Block::Block(std::shared_ptr<Cluster> of, const ClusterPlace& at, int thread_count, std::size_t shared_bytes,
             bool dependency_met)
    : cluster(std::move(of)),
      in_cluster(at),
      index(at.block()),
      first_component(at.first_component(thread_count)),
      shared(shared_bytes, thread_count, at),
      threads(static_cast<std::size_t>(thread_count)),
      warps(static_cast<std::size_t>(thread_count / kLanes)),
      warpgroups(static_cast<std::size_t>(thread_count / kWarpgroupThreads)),
      registers(thread_count),
      running(thread_count) {
  cluster->blocks[static_cast<std::size_t>(in_cluster.rank)] = this;
  for (int i = 0; i < thread_count; ++i) {
    Thread& thread = threads[static_cast<std::size_t>(i)];
    thread.block = this;
    thread.index = i;
    thread.component = first_component + i;
    thread.dependency_met = dependency_met;
    thread.clock.resize(cluster->gathered.size());
    thread.release();
    ready.push_back(&thread);
  }
  for (std::size_t i = 0; i < warpgroups.size(); ++i) {
    warpgroups[i].component = first_component + first_warpgroup(thread_count) + static_cast<int>(i);
  }
}

void Thread::learn_phase(const Mbarrier& barrier) {
  learn(clock, barrier.completed);
  phases_waited[&barrier] = barrier.phase + 1;
}

void Block::make_ready(Thread& thread) {
  thread.waits_for = nullptr;
  ready.push_back(&thread);
}

void Block::wake_claiming() {
  for (Thread* const thread : std::exchange(claiming, {})) make_ready(*thread);
}

void Block::join(std::span<Thread* const> together) {
  Clock joined = together.front()->clock;
  ForeignClocks foreign = together.front()->foreign;
  for (Thread* const thread : together.subspan(1)) {
    learn(joined, thread->clock);
    learn(foreign, thread->foreign);
  }
  for (Thread* const thread : together) {
    thread->clock = joined;
    thread->foreign = foreign;
    thread->release();
  }
}

bool Block::knows_of(const Stamp& stamp) const {
  return std::ranges::any_of(threads,
                             [&](const Thread& thread) { return happened_before(stamp, thread.clock); });
}

void Block::deliver_copy() {
  const BulkCopy arriving = std::move(bulk_copies.front());
  bulk_copies.pop_front();
  Mbarrier& barrier = *arriving.barrier;
  const Stamp stamp{barrier.component, barrier.phase + 1, arriving.line, 0};
  shared.end_copy(arriving.copy.to, arriving.copy.from, arriving.copy.bytes, stamp);
  std::uint32_t& seen = barrier.gathered[static_cast<std::size_t>(barrier.component)];
  seen = stamp.count;
  barrier.bytes_left -= static_cast<std::int64_t>(arriving.copy.bytes);
  if (arriving.storing_block >= 0) remote_acts[stamp.who] = {stamp, arriving.storing_block};
  settle(barrier);
}

void Block::settle(Mbarrier& barrier) {
  if (barrier.arrivals_left > 0) return;
  if (barrier.bytes_left < 0) {
    throw Fault(fmt::format("block {}: phase {} of an mbarrier gets {} bytes more than it expects", index,
                            barrier.phase, -barrier.bytes_left));
  }
  if (barrier.bytes_left > 0) return;
  ++barrier.phase;
  barrier.arrivals_left = barrier.arrivals;
  barrier.completed = barrier.gathered;
  for (Thread* const thread : std::exchange(barrier.waiting, {})) {
    thread->learn_phase(barrier);
    make_ready(*thread);
  }
}

std::string Block::places() const {
  std::map<std::pair<int, std::string>, std::pair<int, int>> places;  // (line, what) -> (first thread, count)
  for (const Thread& thread : threads) {
    if (thread.waits_for == nullptr) continue;
    auto [place, added] = places.try_emplace({thread.line, thread.waits_for}, thread.index, 0);
    ++place->second.second;
  }
  std::string text;
  for (const auto& [place, who] : places) {
    text += fmt::format("block {}: {} thread{} from {} on at line {}, waiting for {}\n", index, who.second,
                        who.second == 1 ? "" : "s", who.first, place.first, place.second);
  }
  const int ended = static_cast<int>(threads.size()) - running;
  if (ended > 0) {
    text += fmt::format("block {}: {} ended\n", index,
                        ended == 1 ? "1 thread has" : fmt::format("{} threads have", ended));
  }
  return text;
}

}  // namespace lutsmith::emulator
