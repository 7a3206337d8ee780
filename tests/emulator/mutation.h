#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "emulation.h"
#include "must.h"

// Mistakes that somebody could make in the device code, each made in an emitted source on purpose. An Example
// is the problem that a mistake shows in; of it are wanted
//
//   KernelSpec spec_of(const Example&)
//   Schedule or one of its kinds: schedule_of(const Example&)
//   Problem problem_of(const Example&)
//   EmulationOptions options_of(const Example&)

namespace lutsmith::emulator_test {

template <class Example>
struct Mutation {
  std::string_view name;       ///< what is broken
  std::string_view from;       ///< occurs once in the source
  std::string_view to;         ///< stands there instead
  std::string_view caught_as;  ///< a regular expression
  Example example = {};
  std::string_view also_from = {};  ///< a second place that the mistake changes
  std::string_view also_to = {};
};

template <class Example>
std::ostream& operator<<(std::ostream& stream, const Mutation<Example>& mutation) {
  return stream << mutation.name;
}

/// As has_turn() of a kernel.
template <class Example>
bool has_turn(const Mutation<Example>& mutation) {
  return has_turn(std::hash<std::string_view>{}(mutation.name));
}

template <class Example>
std::string name_of(const testing::TestParamInfo<Mutation<Example>>& info) {
  return std::string(info.param.name);
}

/// What shows when a source runs in every order of the blocks: a fault of the kernel, or kNothing, kWrong or
/// kOrder.
std::string outcome(const KernelSpec& spec, const Source& source, const Problem& problem,
                    EmulationOptions options);

/// What the first 128 k add the next 128 take away again, and what is left is 2^16 times smaller: all of it
/// stays if it is added to their sum, and half of it if it is added to one of them. So the order shows in
/// which parts are added.
void cancel(Problem& problem);

/// A failure where the text does not occur, or more than once.
void replace_once(std::string& text, std::string_view from, std::string_view to);

constexpr std::string_view kNothing = "nothing is wrong";
constexpr std::string_view kWrong = "the numbers are wrong";
constexpr std::string_view kOrder = "the order of the blocks changes the result";

template <class Example>
void expect_caught(const Mutation<Example>& mutation) {
  const Example& example = mutation.example;
  Source source = must(render(spec_of(example), schedule_of(example)));
  replace_once(source.text, mutation.from, mutation.to);
  if (!mutation.also_from.empty()) replace_once(source.text, mutation.also_from, mutation.also_to);
  if (testing::Test::HasFailure()) return;
  EXPECT_THAT(outcome(spec_of(example), source, problem_of(example), options_of(example)),
              testing::ContainsRegex(std::string(mutation.caught_as)));
}

/// The unchanged source is right in every example that a mistake shows in, of those that have their turn.
template <class Example, std::size_t kCount>
void expect_right_unchanged(const Mutation<Example> (&mutations)[kCount]) {
  std::vector<Example> tried;
  for (const Mutation<Example>& mutation : mutations) {
    const Example& example = mutation.example;
    if (!has_turn(mutation)) continue;
    if (std::ranges::find(tried, example) != tried.end()) continue;
    tried.push_back(example);
    SCOPED_TRACE(mutation.name);
    EXPECT_EQ(outcome(spec_of(example), must(render(spec_of(example), schedule_of(example))),
                      problem_of(example), options_of(example)),
              kNothing);
  }
  EXPECT_FALSE(tried.empty());
}

// What the emulator says, as regular expressions.
constexpr std::string_view kUnwritten = "reads shared byte .*, which nobody has written";
constexpr std::string_view kReadRace = "reads shared byte .* wrote at line .*, with no barrier between";
constexpr std::string_view kWriteRace = "writes shared byte .* wrote at line .*, with no barrier between";
constexpr std::string_view kEarlyWrite = "writes shared byte .* read at line .*, with no barrier between";
constexpr std::string_view kEitherRace = "(reads|writes) shared byte .*, with no barrier between";
constexpr std::string_view kUnderWay = "touches shared byte .* while the copy issued at line .* is under way";
constexpr std::string_view kUnused = "copies over shared byte .* has read at line .* but not used";
constexpr std::string_view kPastShared = "touches .* bytes at shared byte .*; the block has";
constexpr std::string_view kPastWeights = "bytes at byte .* of the weights, whose size is";
constexpr std::string_view kPastActivations = "bytes at byte .* of the activations, whose size is";
constexpr std::string_view kPastOutput = "bytes at byte .* of the output, whose size is";
constexpr std::string_view kUnordered =
    "reads partial sum .* wrote at line .*, with nothing that orders the two";
constexpr std::string_view kCounterLeft = "leaves arrival counter .* at .* after the launch";
constexpr std::string_view kOtherBarrier =
    "is at another of the block's barrier than the threads that wait at line";
constexpr std::string_view kBarrierMissing = "deadlock: .*\n.*waiting for the block's barrier";
constexpr std::string_view kBytesMissing = "deadlock: .*\n.*waiting for the bytes of an mbarrier";
constexpr std::string_view kTooManyArrivals = "arrives at an mbarrier more often than a phase expects";
constexpr std::string_view kEarlySum = "reads partial sum .*, which nobody has written";
constexpr std::string_view kWaitedBefore =
    "waits for a phase of an mbarrier that was complete at its last wait, or before the first";
constexpr std::string_view kNotDependent = "reads what the launch before may write before it has waited";
constexpr std::string_view kNeverSet = "uses a register that nothing was written to";
constexpr std::string_view kWrittenTwice = "writes element .* of the output a second time";

}  // namespace lutsmith::emulator_test
