#include "cli/verbs/quantize/quantize_shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <utility>
#include <variant>

#include "cli/output/printable.h"
#include "core/parallel.h"
#include "quant/packed_rows.h"

namespace lutsmith::cli {
namespace {

constexpr std::uint64_t kCopiedAtOnce = 4 << 20;
constexpr std::size_t kShownName = 100;

/// A quantized tensor whose matrices are under way; the last thread to finish one of them tells of it.
struct Tensor {
  const TensorDecision* decision = nullptr;
  std::vector<float> importance;  ///< of its input channels; empty: all alike
  std::atomic<std::size_t> matrices_left = 0;
};

struct Matrix {
  Tensor* tensor = nullptr;
  PackedLayer layer;
  Table table;
  std::uint64_t first_byte = 0;          ///< in the tensor
  std::vector<QuantizationLoss> losses;  ///< one for each slab
  std::atomic<std::size_t> slabs_left = 0;
};

struct QuantizeRows {
  Matrix* matrix = nullptr;
  std::size_t slab = 0;
  RowSlab rows;
};

struct CopyBytes {
  const TensorDecision* decision = nullptr;
  std::uint64_t first_byte = 0;
  std::uint64_t bytes = 0;
};

using Task = std::variant<QuantizeRows, CopyBytes>;

// What a layer holds is no fault of the arguments.
Error in_layer(const PackedLayer& layer, Error error) {
  if (error.code == ErrorCode::invalid_argument) {
    error.code = ErrorCode::unsupported;
    error.context = fmt::format("to leave it as it is, name '{}' with --skip",
                                printable(layer.source.empty() ? layer.name : layer.source, kShownName));
  }
  error.message = fmt::format("layer '{}': {}", printable(layer.name, kShownName), error.message);
  return error;
}

class ShardWork {
 public:
  ShardWork(const SafetensorsFile& input, const Importance& importance, SafetensorsWriter& writer,
            Progress& progress)
      : input_(input), importance_(importance), writer_(writer), progress_(progress) {}

  Result<void> plan(std::span<const TensorDecision> decisions) {
    for (const TensorDecision& decision : decisions) {
      if (decision.left_alone) continue;
      if (auto planned = plan_layer(decision); !planned) return planned;
    }
    // Copying cannot fail for what the tensors hold, so it comes last.
    for (const TensorDecision& decision : decisions) {
      if (!decision.left_alone) continue;
      for (std::uint64_t first = 0; first < decision.tensor.bytes; first += kCopiedAtOnce) {
        tasks_.emplace_back(
            CopyBytes{&decision, first, std::min(kCopiedAtOnce, decision.tensor.bytes - first)});
      }
    }
    return {};
  }

  Result<void> run(unsigned jobs) {
    // Before their matrices, whose slabs would wait for them. One thread each: matrices are many.
    auto learned =
        parallel_until_error(learning_.size(), jobs, [this](std::size_t i) { return learn(*learning_[i]); });
    if (!learned) return learned;
    return parallel_until_error(tasks_.size(), jobs, [this](std::size_t i) {
      return std::visit([this](const auto& task) { return work(task); }, tasks_[i]);
    });
  }

  std::vector<LayerBytes> layers() const {
    std::vector<LayerBytes> result;
    for (const auto& matrix : matrices_) {
      const WeightFormat& format = matrix->layer.format;
      const std::int64_t before = format.n * format.k * floating_bytes(matrix->layer.source_dtype);
      result.push_back({matrix->layer, static_cast<std::uint64_t>(before), *packed_bytes(format)});
    }
    return result;
  }

 private:
  Result<void> plan_layer(const TensorDecision& decision) {
    auto table = table_for(decision.settings);
    if (!table) return std::unexpected(table.error());
    auto tensor = std::make_unique<Tensor>();
    tensor->decision = &decision;
    auto importance = importance_.of(decision);
    if (!importance) return std::unexpected(importance.error());
    tensor->importance = *std::move(importance);
    std::uint64_t first_byte = 0;
    for (PackedLayer& layer : packed_layers(decision)) {
      const std::vector<RowSlab> slabs = row_slabs(layer.format.n, layer.format.k);
      auto matrix = std::make_unique<Matrix>();
      matrix->tensor = tensor.get();
      matrix->layer = std::move(layer);
      matrix->table = *table;
      if (decision.settings.learns_table()) learning_.push_back(matrix.get());
      matrix->first_byte = first_byte;
      matrix->losses.resize(slabs.size());
      matrix->slabs_left = slabs.size();
      for (std::size_t i = 0; i < slabs.size(); ++i)
        tasks_.emplace_back(QuantizeRows{matrix.get(), i, slabs[i]});
      first_byte +=
          static_cast<std::uint64_t>(decision.n * decision.k * floating_bytes(decision.tensor.dtype));
      ++tensor->matrices_left;
      matrices_.push_back(std::move(matrix));
    }
    tensors_.push_back(std::move(tensor));
    return {};
  }

  Result<void> learn(Matrix& matrix) {
    const WeightFormat& format = matrix.layer.format;
    const std::vector<std::int64_t> rows = learning_rows(format.n, format.k);
    std::vector<float> weights;
    weights.reserve(rows.size() * static_cast<std::size_t>(format.k));
    for (const std::int64_t row : rows) {
      const auto numbers = read_rows(matrix, {row, 1});
      if (!numbers) return std::unexpected(numbers.error());
      weights.insert(weights.end(), numbers->begin(), numbers->end());
    }
    auto learned = learn_table(weights, static_cast<std::int64_t>(rows.size()), format.k, format.bits,
                               format.group, format.dtype, {.importance = matrix.tensor->importance});
    if (!learned) return std::unexpected(in_layer(matrix.layer, learned.error()));
    matrix.table = std::move(learned->table);
    return {};
  }

  Result<void> work(const QuantizeRows& task) {
    Matrix& matrix = *task.matrix;
    auto done = quantize_rows(task);
    if (done && --matrix.slabs_left == 0) done = finish(matrix);
    if (!done) return std::unexpected(in_layer(matrix.layer, done.error()));
    return done;
  }

  Result<void> quantize_rows(const QuantizeRows& task) {
    Matrix& matrix = *task.matrix;
    const WeightFormat& format = matrix.layer.format;
    const auto weights = read_rows(matrix, task.rows);
    if (!weights) return std::unexpected(weights.error());
    QuantizationLoss& loss = matrix.losses[task.slab];
    loss.rows = task.rows.first;
    const auto quantized =
        quantize(*weights, task.rows.rows, format.k, matrix.table, format.group, format.dtype, loss,
                 {.scales = matrix.tensor->decision->settings.scale_choice(),
                  .importance = matrix.tensor->importance});
    if (!quantized) return std::unexpected(quantized.error());
    const auto packed = pack(*quantized);
    if (!packed) return std::unexpected(packed.error());
    const std::string name = packed_tensor_name(matrix.layer.name);
    for (const PackedPiece& piece : packed_pieces(task.rows, format, *packed)) {
      if (auto written = writer_.write(name, piece.offset, piece.bytes); !written) return written;
    }
    if (task.slab > 0) return {};
    return writer_.write(table_tensor_name(matrix.layer.name), 0, std::as_bytes(std::span(quantized->table)));
  }

  Result<std::vector<float>> read_rows(const Matrix& matrix, const RowSlab& rows) const {
    const TensorDecision& decision = *matrix.tensor->decision;
    const auto row_bytes = static_cast<std::uint64_t>(decision.k * floating_bytes(decision.tensor.dtype));
    std::vector<std::byte> bytes(static_cast<std::uint64_t>(rows.rows) * row_bytes);
    const std::uint64_t first = matrix.first_byte + static_cast<std::uint64_t>(rows.first) * row_bytes;
    if (auto read = input_.read(decision.name, first, bytes); !read) return std::unexpected(read.error());
    return to_floats(decision.tensor.dtype, bytes);
  }

  Result<void> finish(Matrix& matrix) {
    QuantizationLoss loss;
    for (const QuantizationLoss& slab : matrix.losses) loss.add(slab);
    if (auto kept = check_loss(loss, matrix.layer.format.dtype); !kept) return kept;
    matrix.layer.weight_error = loss.relative_error();
    if (--matrix.tensor->matrices_left == 0)
      progress_.advance(printable(matrix.tensor->decision->name, kShownName));
    return {};
  }

  Result<void> work(const CopyBytes& task) {
    std::vector<std::byte> bytes(task.bytes);
    const std::string& name = task.decision->name;
    if (auto read = input_.read(name, task.first_byte, bytes); !read) return read;
    return writer_.write(name, task.first_byte, bytes);
  }

  const SafetensorsFile& input_;
  const Importance& importance_;
  SafetensorsWriter& writer_;
  Progress& progress_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  std::vector<std::unique_ptr<Matrix>> matrices_;
  std::vector<Matrix*> learning_;  // whose tables are learned
  std::vector<Task> tasks_;
};

std::map<std::string, std::string> metadata_of(const SafetensorsFile& input,
                                               std::span<const PackedLayer> layers) {
  std::map<std::string, std::string> metadata = input.metadata();
  if (!layers.empty()) metadata[kPackedMetadataKey] = describe_layers(layers);
  return metadata;
}

/// Room for the descriptions, whose errors are not known before the end: as if each had the most digits.
std::size_t metadata_room(const SafetensorsFile& input, std::span<const TensorDecision> decisions) {
  std::vector<PackedLayer> layers;
  for (const TensorDecision& decision : decisions) {
    if (decision.left_alone) continue;
    for (PackedLayer& layer : packed_layers(decision)) {
      layer.weight_error = 1.2345678901234567e-300;
      layers.push_back(std::move(layer));
    }
  }
  return SafetensorsWriter::metadata_bytes(metadata_of(input, layers));
}

}  // namespace

std::vector<PackedLayer> packed_layers(const TensorDecision& decision) {
  const LayerSettings& settings = decision.settings;
  PackedLayer layer{.name = decision.name,
                    .format = {settings.bits, settings.group, decision.n, decision.k, settings.dtype},
                    .method = settings.method,
                    .source_dtype = decision.tensor.dtype};
  if (decision.experts == 0) return {layer};
  std::vector<PackedLayer> layers;
  layer.source = decision.name;
  for (std::int64_t expert = 0; expert < decision.experts; ++expert) {
    layer.name = fmt::format("{}.{}", decision.name, expert);
    layer.expert = expert;
    layers.push_back(layer);
  }
  return layers;
}

Result<std::vector<TensorToWrite>> written_tensors(const TensorDecision& decision) {
  std::vector<TensorToWrite> tensors;
  if (decision.left_alone) {
    tensors.push_back({decision.name, decision.tensor.dtype, decision.tensor.shape});
    return tensors;
  }
  for (const PackedLayer& layer : packed_layers(decision)) {
    const auto bytes = packed_bytes(layer.format);
    if (!bytes) return std::unexpected(in_layer(layer, bytes.error()));
    tensors.push_back({packed_tensor_name(layer.name), "U8", {static_cast<std::int64_t>(*bytes)}});
    tensors.push_back({table_tensor_name(layer.name),
                       safetensors_dtype(layer.format.dtype),
                       {table_length(layer.format.bits, layer.format.table)}});
  }
  return tensors;
}

Result<std::vector<LayerBytes>> quantize_shard(const SafetensorsFile& input,
                                               std::span<const TensorDecision> decisions,
                                               const Importance& importance,
                                               const std::filesystem::path& output, unsigned jobs,
                                               Progress& progress) {
  std::vector<TensorToWrite> tensors;
  for (const TensorDecision& decision : decisions) {
    auto written = written_tensors(decision);
    if (!written) return std::unexpected(written.error());
    std::ranges::move(*written, std::back_inserter(tensors));
  }
  auto writer = SafetensorsWriter::create(output, tensors, metadata_room(input, decisions));
  if (!writer) return std::unexpected(writer.error());
  ShardWork work(input, importance, *writer, progress);
  if (auto planned = work.plan(decisions); !planned) return std::unexpected(planned.error());
  if (auto done = work.run(jobs); !done) return std::unexpected(done.error());
  std::vector<LayerBytes> layers = work.layers();
  std::vector<PackedLayer> descriptions;
  for (const LayerBytes& layer : layers) descriptions.push_back(layer.layer);
  if (auto done = writer->commit(metadata_of(input, descriptions)); !done)
    return std::unexpected(done.error());
  return layers;
}

}  // namespace lutsmith::cli
