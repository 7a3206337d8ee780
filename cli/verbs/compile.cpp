#include <fmt/format.h>

#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/open_service.h"
#include "cli/options/spec_options.h"
#include "cli/output/kernel_json.h"
#include "cli/output/output.h"
#include "cli/output/write_file.h"

namespace lutsmith::cli {
namespace {

struct CompileOptions {
  SpecOptions spec;
  std::string output;
};

struct Row {
  KernelRequest request;
  Result<CompileResult> result;
};

int shared_bytes(const Artifact& artifact) {
  return artifact.static_shared_bytes + artifact.launch.shared_bytes;
}

Json row_json(const Row& row) {
  Json json = model_fields(row.request);
  if (!row.result) {
    json["spec"] = to_json(row.request.spec);
    json["error"] = to_json(row.result.error());
    return json;
  }
  const CompileResult& result = *row.result;
  const Artifact& artifact = *result.artifact;
  json["key"] = artifact.key;
  json["cache"] = cache_outcome(result.origin);
  json["origin"] = to_string(result.origin);
  json["milliseconds"] = result.milliseconds;
  json["target"] = row.request.spec.target.name();
  json["registers"] = artifact.registers;
  json["shared_bytes"] = shared_bytes(artifact);
  json["spill_bytes"] = artifact.spill_bytes;
  json["cubin_bytes"] = artifact.cubin.size();
  if (const auto source = render(row.request.spec, result.choice.schedule))
    json["source_bytes"] = source->text.size();
  json["kernel_name"] = artifact.kernel_name;
  json["spec"] = to_json(row.request.spec);
  json["schedule"] = to_json(result.choice.schedule);
  json["partitions"] = result.choice.partitions;
  json["chosen_by"] = to_string(result.chosen_by);
  json["launch"] = to_json(artifact.launch);
  return json;
}

void print_table(const std::vector<Row>& rows) {
  using enum TextTable::Align;
  TextTable table({{"kernel", left},
                   {"layer", left},
                   {"cache", left},
                   {"ms"},
                   {"registers"},
                   {"shared"},
                   {"spills"},
                   {"cubin"},
                   {"key", left},
                   {"schedule", left}});
  for (const Row& row : rows) {
    if (!row.result) continue;
    const Artifact& artifact = *row.result->artifact;
    table.add_row({describe(row.request.spec), layer_label(row.request), cache_outcome(row.result->origin),
                   fmt::format("{:.1f}", row.result->milliseconds), fmt::to_string(artifact.registers),
                   byte_count(shared_bytes(artifact)), byte_count(artifact.spill_bytes),
                   byte_count(artifact.cubin.size()), artifact.key.substr(0, 12),
                   describe(row.result->choice)});
  }
  table.print();
  for (const Row& row : rows) {
    if (row.result) continue;
    Error error = row.result.error();
    error.message = describe(row.request.spec) + ": " + error.message;
    print_error(error, /*json=*/false);
  }
}

Result<ExitCode> run_compile(const CompileOptions& options, bool json) {
  const auto requests = expand(options.spec.text, options.spec.schedule);
  if (!requests) return std::unexpected(requests.error());
  if (!options.output.empty() && requests->kernels.size() > 1) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("-o takes one kernel, and {} were asked for", requests->kernels.size()),
              {}});
  }
  // Whatever LUTSMITH_COMPILE says: this is how kernels are warmed where it says never.
  auto service = open_service({.compile = CompilePolicy::when_needed});
  if (!service) return std::unexpected(service.error());
  std::vector<Row> rows;
  bool failed = false;
  for (const KernelRequest& request : requests->kernels) {
    rows.push_back({request, service->compile(request.spec, request.schedule)});
    failed = failed || !rows.back().result;
  }
  if (failed && !requests->several) return std::unexpected(rows.front().result.error());
  if (!options.output.empty()) {
    const auto written = write_file(options.output, rows.front().result->artifact->cubin);
    if (!written) return std::unexpected(written.error());
  }
  if (json) {
    Json kernels = Json::array();
    for (const Row& row : rows) kernels.push_back(row_json(row));
    print_json(requests->several ? Json{{"kernels", kernels}} : kernels.front());
  } else {
    print_table(rows);
  }
  return failed ? ExitCode::work_failed : ExitCode::success;
}

}  // namespace

void add_compile(CLI::App& app, Context& context) {
  const auto options = std::make_shared<CompileOptions>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "compile",
       .description = "Compile kernels through the cache and report what came out",
       .examples = "  lutsmith compile --bits 4 --group 128 --n 4096 --k 4096 --target sm_90a\n"
                   "  lutsmith compile --bits 2,3,4 --m 1,16 --n 4096 --k 4096 --target sm_80,sm_90a --json\n"
                   "  lutsmith compile --model llama3.1-8b --tp 2 --target sm_90a\n"
                   "  lutsmith compile --n 4096 --k 4096 --target sm_90a -o kernel.cubin",
       .work = [options, &context] { return run_compile(*options, context.json); }});
  verb.add_option("-o,--output", options->output, "Write the cubin to this file (one kernel only)")
      ->type_name("FILE");
  add_spec_options(verb, options->spec);
}

}  // namespace lutsmith::cli
