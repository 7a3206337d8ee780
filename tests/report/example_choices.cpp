#include "example_choices.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "cli/options/models.h"
#include "codegen/families.h"
#include "must.h"

namespace lutsmith::test {
namespace {

constexpr int kMultiprocessors = 132;
constexpr std::size_t kSchedules = 8;
constexpr double kNoise = 0.003;

/// Numbers that depend on nothing but their seed, on every machine: distributions of the standard library do
/// not.
class Dice {
 public:
  explicit Dice(unsigned seed) : engine_(seed) {}
  double between(double low, double high) {
    return low + (high - low) * static_cast<double>(engine_()) / static_cast<double>(std::mt19937::max());
  }

 private:
  std::mt19937 engine_;
};

std::set<int> partition_counts(const KernelSpec& spec, const LaunchRecipe& recipe, bool swept) {
  const int resident = kMultiprocessors * recipe.blocks_per_multiprocessor;
  std::set<int> counts{resident, 2 * resident};
  for (int count = 66; swept && count <= 4 * kMultiprocessors; count += 33) counts.insert(count);
  std::set<int> used{must(partition(recipe, spec.m, kMultiprocessors)).partitions};
  for (const int count : counts) {
    used.insert(must(partition(recipe, spec.m, kMultiprocessors, count)).partitions);
  }
  return used;
}

/// Every schedule takes longer or shorter than the model thinks, which does not change from run to run.
std::vector<double> errors_of_model(const KernelSpec& spec) {
  Dice dice(static_cast<unsigned>(spec.format.n * 31 + spec.format.k * 7 + spec.m + spec.format.bits));
  std::vector<double> errors(kSchedules);
  for (double& error : errors) error = dice.between(0.97, 1.05);
  return errors;
}

void measure(choices::Entry& entry, Dice& dice) {
  GpuModel gpu = GpuModel::of(entry.spec.target);
  gpu.multiprocessors = kMultiprocessors;
  const std::vector<double> errors = errors_of_model(entry.spec);
  for (std::size_t i = 0; i < entry.schedules.size(); ++i) {
    const bool swept = i < 3;
    const LaunchRecipe recipe = launch_recipe(entry.spec, entry.schedules[i]);
    for (const int count : partition_counts(entry.spec, recipe, swept)) {
      const double time = estimated_microseconds(entry.spec, entry.schedules[i], gpu, count) * errors[i] *
                          (1 + dice.between(-kNoise / 2, kNoise / 2));
      entry.measurements.push_back({.schedule = i,
                                    .partitions = count,
                                    .microseconds = std::round(time * 1000) / 1000,
                                    .spread = std::round(dice.between(0.5, 2) * kNoise * 1e4) / 1e4,
                                    .rounds = swept ? 25 : 5});
    }
  }
  std::ranges::sort(entry.measurements, {}, &choices::Measurement::microseconds);
}

void choose(choices::Entry& entry) {
  const int usual =
      must(partition(launch_recipe(entry.spec, entry.schedules[0]), entry.spec.m, kMultiprocessors))
          .partitions;
  const auto timed = [](const choices::Measurement& each) {
    return choices::Timed{each.schedule, each.partitions, each.microseconds};
  };
  const auto standard = std::ranges::find_if(entry.measurements, [&](const choices::Measurement& each) {
    return each.schedule == 0 && each.partitions == usual;
  });
  entry.standard = timed(*standard);
  const choices::Timed best = timed(entry.measurements.front());
  entry.noise = kNoise;
  entry.choice = best.microseconds * (1 + kNoise) < entry.standard.microseconds ? best : entry.standard;
}

choices::Entry example_entry(const KernelSpec& spec, const ExampleChoices& wanted) {
  Dice dice(wanted.seed + static_cast<unsigned>(spec.format.n + 3 * spec.format.k + 5 * spec.m));
  choices::Entry entry;
  entry.spec = spec;
  entry.schedules = must(schedules(spec));
  entry.schedules.resize(std::min(entry.schedules.size(), kSchedules));
  measure(entry, dice);
  choose(entry);
  const double weights = static_cast<double>(spec.format.n) * static_cast<double>(spec.format.k);
  const double best = entry.measurements.front().microseconds;
  const double floor = best * (0.6 + 0.35 * best / (best + 5));
  entry.floor_microseconds = std::round(floor * 1000) / 1000;
  entry.floor_dependent_microseconds = std::round(floor * 970) / 1000;
  entry.fp16_microseconds = std::round(1000 * (weights * 2 / 3.0e6 + 2.5)) / 1000;
  entry.failures = {{entry.schedules.size() - 1, "spills 32 bytes of registers"}};
  entry.conditions = {.measured = wanted.measured,
                      .driver = "0.0 (example)",
                      .compiler = "none (example)",
                      .library = "0.0.0",
                      .clock_mhz = 1980,
                      .memory_clock_mhz = 2619,
                      .power_watts = 350,
                      .temperature_celsius = 41,
                      .other_processes = 0};
  return entry;
}

}  // namespace

choices::Document example_choices(const ExampleChoices& wanted) {
  const Target target = must(Target::parse("sm_90a"));
  choices::Document document(
      {.name = "Example GPU, times made up", .multiprocessors = kMultiprocessors, .target = target});
  for (const std::string& name : wanted.models) {
    for (const cli::LayerShape& layer : must(cli::layer_shapes(must(cli::find_model(name)), /*tp=*/1))) {
      for (const int bits : wanted.bits) {
        for (const std::int64_t m : wanted.tokens) {
          const KernelSpec spec{
              .format = {.bits = bits, .group = 128, .n = layer.n, .k = layer.k}, .m = m, .target = target};
          document.put(example_entry(spec, wanted));
        }
      }
    }
  }
  return document;
}

}  // namespace lutsmith::test
