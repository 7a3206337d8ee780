#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "choices/document.h"
#include "lutsmith/choice.h"
#include "lutsmith/error.h"
#include "lutsmith/kernel_spec.h"
#include "measure/device.h"
#include "measure/timing.h"

namespace lutsmith::tuning {

/// What a kernel is compared with, in microseconds per launch.
struct Bounds {
  double floor = 0;
  std::optional<double> floor_dependent;
  std::optional<double> fp16;
};

/// Where kernels are made and launched for the tuner: a GPU, or a simulation of one.
class Workbench {
 public:
  Workbench() = default;
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;
  virtual ~Workbench() = default;

  virtual const choices::Gpu& gpu() const = 0;
  virtual measure::Device& device() = 0;

  /// Compiles what will be asked for, in parallel; whatever goes wrong is told by `make` again.
  virtual void compile_ahead(const KernelSpec& spec, std::span<const Schedule> schedules) = 0;
  /// Weights and tokens of a product. What was made for the one before is not to be used any more.
  virtual Result<void> begin(const KernelSpec& spec) = 0;
  /// Error where the kernel cannot be had, or spills registers.
  virtual Result<void> make(const Schedule& schedule) = 0;
  /// Launches once into an output full of not-a-numbers. Error where the result is wrong.
  virtual Result<void> check(const Choice& choice) = 0;
  virtual Result<measure::Contender> contender(const Choice& choice) = 0;
  /// Of the product, measured in turns.
  virtual Result<Bounds> bounds() = 0;
  /// What the GPU is doing now; quality is left to the tuner.
  virtual choices::Conditions conditions() = 0;
};

}  // namespace lutsmith::tuning
