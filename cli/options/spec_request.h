#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options/models.h"
#include "cli/options/schedule_override.h"
#include "lutsmith/codegen.h"
#include "lutsmith/error.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith::cli {

/// Whether several values, separated by commas, may be given for a field of the spec: all but n and k.
bool takes_list(std::string_view field);

/// What was asked for, still as text: a value or a list for every field of KernelSpec, and models.
struct SpecText {
  /// The defaults; n and k are empty.
  SpecText();

  /// The text for a field. There is one for every field of KernelSpec and no other.
  std::string& operator[](std::string_view field) { return fields.find(field)->second; }
  const std::string& operator[](std::string_view field) const { return fields.find(field)->second; }

  FieldTexts fields;
  std::string model;  ///< one or several, instead of n and k
  std::string tp = "1";
};

/// The fields that say what is made of a product's sums.
inline constexpr std::array<std::string_view, 4> kEpilogueFields{"residual", "bias", "gated", "output"};

/// A spec with those fields of `text`, of which each has one value here; its other fields are as they are by
/// default.
Result<KernelSpec> read_epilogue(const SpecText& text);

/// One kernel to be made.
struct KernelRequest {
  std::string model;  ///< empty unless the shape came from a model
  int tp = 1;
  LayerShape layer;  ///< its name is empty unless the shape came from a model
  KernelSpec spec;
  std::optional<Schedule> schedule;  ///< nothing: the first choice of the cost model
};

struct KernelRequests {
  std::vector<KernelRequest> kernels;  ///< never empty
  bool several = false;                ///< a list or a model was given, so the answer is an array too
};

/// Every combination of the values given, each validated. Any value that is not allowed is an
/// invalid_argument error that names field, value and what is allowed.
Result<KernelRequests> expand(const SpecText& text, const ScheduleOverride& schedule = {});

/// The target of this machine's GPU; invalid_argument, saying to give --target, where there is none.
Result<Target> native_target();

/// Comma-separated names of targets; "native" is this machine's GPU.
Result<std::vector<Target>> parse_targets(std::string_view list);

/// The schedule of a request: its own, else the cost model's first choice.
Result<Schedule> schedule_of(const KernelRequest& request);

}  // namespace lutsmith::cli
