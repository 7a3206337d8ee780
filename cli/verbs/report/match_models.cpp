#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "cli/options/models.h"
#include "cli/verbs/report/tuning_report.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

/// Shapes of one GPU and format, by n, k and m.
using Size = std::tuple<std::int64_t, std::int64_t, std::int64_t>;
struct Tuned {
  std::size_t gpu = 0;
  std::string weights;
  std::map<Size, std::size_t> shapes;
  std::set<std::int64_t> tokens;
};

std::vector<Tuned> by_format(const std::vector<ReportShape>& shapes) {
  std::vector<Tuned> result;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const KernelSpec& spec = shapes[i].entry->spec;
    const std::string weights = weights_name(spec.format);
    auto place = std::ranges::find_if(
        result, [&](const Tuned& each) { return each.gpu == shapes[i].gpu && each.weights == weights; });
    if (place == result.end()) {
      result.push_back({.gpu = shapes[i].gpu, .weights = weights, .shapes = {}, .tokens = {}});
      place = std::prev(result.end());
    }
    place->shapes.emplace(Size(spec.format.n, spec.format.k, spec.m), i);
    place->tokens.insert(spec.m);
  }
  return result;
}

struct Load {
  std::int64_t launches = 1;  ///< of each matrix's kernel at one place of the model
  std::int64_t tokens = 1;    ///< of each launch
};

/// How `m` tokens meet a layer: all at once, or spread over experts.
Load load(const Model& model, const LayerShape& layer, std::int64_t m) {
  if (layer.experts == 0) return {.launches = 1, .tokens = m};
  const std::int64_t visits = m * model.experts_per_token;
  const std::int64_t reached = std::min<std::int64_t>(layer.experts, visits);
  return {.launches = reached, .tokens = (visits + reached - 1) / reached};
}

/// A pass of `m` tokens; nothing where a layer was not tuned, whose shape is added to `missing`.
std::optional<ModelStep> step_of(const Model& model, const std::vector<LayerShape>& layers, std::int64_t m,
                                 const Tuned& tuned, const std::vector<ReportShape>& shapes,
                                 std::set<Size>* missing) {
  ModelStep step{.m = m, .fp16_microseconds = 0};
  for (const LayerShape& layer : layers) {
    const Load each = load(model, layer, m);
    const Size size(layer.n, layer.k, token_bucket(each.tokens));
    const auto found = tuned.shapes.find(size);
    if (found == tuned.shapes.end()) {
      if (missing != nullptr) missing->insert(size);
      continue;
    }
    const ReportShape& shape = shapes[found->second];
    const int launches = layer.count * static_cast<int>(each.launches);
    step.layers.push_back({.shape = found->second, .launches = launches});
    step.microseconds += launches * shape.microseconds();
    step.default_microseconds += launches * shape.entry->standard.microseconds;
    step.floor_microseconds += launches * shape.floor_microseconds;
    if (step.fp16_microseconds && shape.entry->fp16_microseconds) {
      *step.fp16_microseconds += launches * *shape.entry->fp16_microseconds;
    } else {
      step.fp16_microseconds.reset();
    }
  }
  if (step.layers.size() < layers.size()) return std::nullopt;
  return step;
}

/// The model's share of one of `tp` GPUs, where all layers were tuned for some number of tokens.
std::optional<ReportModel> complete_model(const Model& model, int tp, const std::vector<LayerShape>& layers,
                                          const Tuned& tuned, const std::vector<ReportShape>& shapes) {
  ReportModel result{.names = {model.name}, .tp = tp, .gpu = tuned.gpu, .weights = tuned.weights};
  for (const std::int64_t m : tuned.tokens) {
    std::optional<ModelStep> step = step_of(model, layers, m, tuned, shapes, nullptr);
    if (step) result.steps.push_back(*std::move(step));
  }
  if (result.steps.empty()) return std::nullopt;
  for (const LayerShape& layer : layers) result.layers.push_back({layer.name, layer.n, layer.k});
  return result;
}

/// Whether two models, of the same GPU, share and weights, ask for the same work.
bool same_work(const ReportModel& a, const ReportModel& b) {
  const auto same_layers = [](const ModelStep& x, const ModelStep& y) {
    return x.m == y.m && std::ranges::equal(x.layers, y.layers, [](const LayerTime& s, const LayerTime& t) {
             return s.shape == t.shape && s.launches == t.launches;
           });
  };
  const auto same_names = [](const ReportLayer& x, const ReportLayer& y) { return x.name == y.name; };
  return a.gpu == b.gpu && a.tp == b.tp && a.weights == b.weights &&
         std::ranges::equal(a.steps, b.steps, same_layers) &&
         std::ranges::equal(a.layers, b.layers, same_names);
}

void add_label(ReportShape& shape, const std::string& label) {
  if (std::ranges::find(shape.layers, label) == shape.layers.end()) shape.layers.push_back(label);
}

/// Which shapes the model at one GPU lacks of the format that has most of it.
Error incomplete(const Model& model, const std::vector<Tuned>& tuned,
                 const std::vector<ReportShape>& shapes) {
  const auto layers = layer_shapes(model, 1);
  std::vector<std::string> missing;
  for (const Tuned& each : tuned) {
    for (const std::int64_t m : each.tokens) {
      std::set<Size> lacking;
      if (layers) step_of(model, *layers, m, each, shapes, &lacking);
      std::vector<std::string> names;
      for (const auto& [n, k, tokens] : lacking) {
        names.push_back(fmt::format("{} {}x{} m{}", each.weights, n, k, tokens));
      }
      if (missing.empty() || names.size() < missing.size()) missing = std::move(names);
    }
  }
  return {
      ErrorCode::not_found,
      fmt::format("model: not all layers of {} were tuned; on one GPU there is nothing for {}", model.name,
                  fmt::join(missing, ", ")),
      fmt::format("`lutsmith tune --model {}` measures them; without --model the report has what there is",
                  model.name)};
}

}  // namespace

Result<std::vector<ReportModel>> match_models(std::vector<ReportShape>& shapes,
                                              const std::vector<std::string>& names) {
  std::vector<Model> wanted;
  for (const std::string& name : names) {
    Result<Model> model = find_model(name);
    if (!model) return failure(model);
    wanted.push_back(*std::move(model));
  }
  const std::vector<Tuned> tuned = by_format(shapes);
  std::vector<ReportModel> result;
  for (const Model& model : names.empty() ? models() : wanted) {
    bool complete = false;
    for (int tp = 1; tp <= model.heads; ++tp) {
      const auto layers = layer_shapes(model, tp);
      if (!layers) continue;
      for (const Tuned& each : tuned) {
        std::optional<ReportModel> found = complete_model(model, tp, *layers, each, shapes);
        if (!found) continue;
        complete = true;
        const std::string share = tp == 1 ? "" : fmt::format(" tp{}", tp);
        for (const ModelStep& step : found->steps) {
          for (std::size_t i = 0; i < layers->size(); ++i) {
            add_label(shapes[step.layers[i].shape],
                      fmt::format("{}{} {}", model.name, share, (*layers)[i].name));
          }
        }
        const auto same =
            std::ranges::find_if(result, [&](const ReportModel& other) { return same_work(other, *found); });
        if (same != result.end()) {
          same->names.push_back(model.name);
        } else {
          result.push_back(*std::move(found));
        }
      }
    }
    if (!complete && !names.empty()) return std::unexpected(incomplete(model, tuned, shapes));
  }
  return result;
}

}  // namespace lutsmith::cli
