#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "must.h"
#include "simulated_device.h"
#include "tuning/workbench.h"

namespace lutsmith::test {

/// A workbench whose launches take stated times, on a device with noise, drift and bursts.
class SimulatedWorkbench final : public tuning::Workbench {
 public:
  using Cost = std::function<double(const Choice&)>;  // microseconds

  SimulatedWorkbench(SimulatedTimes times, Cost cost) : device_(std::move(times)), cost_(std::move(cost)) {}

  const choices::Gpu& gpu() const override { return gpu_; }
  measure::Device& device() override { return device_; }
  void compile_ahead(const KernelSpec&, std::span<const Schedule> schedules) override {
    compiled_ += static_cast<int>(schedules.size());
  }
  Result<void> begin(const KernelSpec& spec) override {
    begun_.push_back(spec);
    return {};
  }
  Result<void> make(const Schedule& schedule) override { return make_result(schedule); }
  Result<void> check(const Choice& choice) override {
    checked_.push_back(choice);
    return check_result(choice);
  }
  Result<measure::Contender> contender(const Choice& choice) override {
    timed_.push_back(choice);
    return measure::make_contender(device_, "kernel", 20,
                                   [&](int) { return device_.enqueue(cost_(choice)); });
  }
  Result<tuning::Bounds> bounds() override {
    return tuning::Bounds{.floor = 1, .floor_dependent = {}, .fp16 = 9};
  }
  choices::Conditions conditions() override { return conditions_now; }

  double cost(const Choice& choice) const { return cost_(choice); }
  const std::vector<KernelSpec>& begun() const { return begun_; }
  const std::vector<Choice>& checked() const { return checked_; }
  const std::vector<Choice>& timed() const { return timed_; }
  int compiled() const { return compiled_; }

  std::function<Result<void>(const Schedule&)> make_result = [](const Schedule&) { return Result<void>(); };
  std::function<Result<void>(const Choice&)> check_result = [](const Choice&) { return Result<void>(); };
  choices::Conditions conditions_now{.measured = "2026-01-02T03:04:05Z"};

 private:
  choices::Gpu gpu_{.name = "simulated", .multiprocessors = 100, .target = must(Target::parse("sm_90a"))};
  SimulatedDevice device_;
  Cost cost_;
  std::vector<KernelSpec> begun_;
  std::vector<Choice> checked_;
  std::vector<Choice> timed_;
  int compiled_ = 0;
};

}  // namespace lutsmith::test
