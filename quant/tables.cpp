#include <fmt/format.h>

#include <array>
#include <utility>

#include "core/format_fields.h"
#include "core/result.h"
#include "quant/normal_distribution.h"
#include "quant/validation.h"

namespace lutsmith {

using quant::normal_quantile;

Result<Table> normal_float_table(int bits) {
  if (bits < 2 || bits > 8) {  // three of the values are given: -1, 0 and 1
    return refuse(fmt::format("bits: {} is not allowed with method nf; allowed: 2 to 8", bits));
  }
  // The outermost quantiles: halfway between what 15 and 16 levels would ask for, at every width.
  constexpr double kTail = (1.0 / 32 + 1.0 / 30) / 2;
  const double largest = normal_quantile(1 - kTail);
  const int half = 1 << (bits - 1);
  Table table{fmt::format("nf{}", bits), bits, TableKind::scalar, {}};
  // Zero belongs to the negative side, which therefore is one step coarser.
  for (int i = 0; i < half - 1; ++i) {
    const double p = kTail + (0.5 - kTail) * i / (half - 1);
    table.values.push_back(static_cast<float>(normal_quantile(p) / largest));
  }
  table.values.push_back(0);
  for (int i = 1; i <= half; ++i) {
    const double p = 0.5 + (0.5 - kTail) * i / half;
    table.values.push_back(static_cast<float>(normal_quantile(p) / largest));
  }
  return table;
}

Result<Table> integer_table(int bits) {
  if (auto checked = validate_bits(bits); !checked) return std::unexpected(checked.error());
  Table table{fmt::format("int{}", bits), bits, TableKind::scalar, {}};
  const int half = 1 << (bits - 1);
  for (int value = -half; value < half; ++value) table.values.push_back(static_cast<float>(value));
  return table;
}

Table fp4_table() {
  constexpr std::array<float, 8> kMagnitudes{0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  Table table{"fp4", 4, TableKind::scalar, {kMagnitudes.begin(), kMagnitudes.end()}};
  for (const float magnitude : kMagnitudes) table.values.push_back(-magnitude);
  return table;
}

Result<Table> given_table(int bits, TableKind kind, std::vector<float> values, DataType dtype) {
  if (auto checked = quant::validate_table(bits, kind, values, dtype); !checked) {
    return std::unexpected(checked.error());
  }
  return Table{"given", bits, kind, std::move(values)};
}

Result<Table> table_by_method(std::string_view method, int bits) {
  if (method == "nf") return normal_float_table(bits);
  if (method == "int") return integer_table(bits);
  if (method == "lloyd") return lloyd_max_table(bits);
  if (method == "fp") {
    if (bits == 4) return fp4_table();
    return refuse(fmt::format("bits: {} is not allowed with method fp; allowed: 4", bits));
  }
  if (method == "kmeans") {
    return refuse("method: 'kmeans' has no table of its own; learn_table makes one from weights");
  }
  return refuse(fmt::format("method: '{}' is not known; allowed: nf, int, fp, lloyd, kmeans", method));
}

}  // namespace lutsmith
