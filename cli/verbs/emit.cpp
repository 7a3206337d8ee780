#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/options/spec_options.h"
#include "cli/output/kernel_json.h"
#include "cli/output/output.h"

namespace lutsmith::cli {
namespace {

struct Emitted {
  KernelRequest request;
  Schedule schedule;
  Source source;
};

Result<Emitted> emit(const KernelRequest& request) {
  const auto schedule = schedule_of(request);
  if (!schedule) return std::unexpected(schedule.error());
  auto source = render(request.spec, *schedule);
  if (!source) return std::unexpected(source.error());
  return Emitted{request, *schedule, std::move(*source)};
}

Json emitted_json(const Emitted& emitted) {
  Json result = model_fields(emitted.request);
  result["spec"] = to_json(emitted.request.spec);
  result["schedule"] = to_json(emitted.schedule);
  result["kernel_name"] = emitted.source.kernel_name;
  result["launch"] = to_json(emitted.source.launch);
  result["source_bytes"] = emitted.source.text.size();
  result["source"] = emitted.source.text;
  return result;
}

Result<ExitCode> run_emit(const SpecOptions& options, bool json) {
  const auto requests = expand(options.text, options.schedule);
  if (!requests) return std::unexpected(requests.error());
  if (!json && requests->kernels.size() > 1) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("emit prints one source, and {} kernels were asked for; ask for one, or add --json",
                          requests->kernels.size()),
              {}});
  }
  Json kernels = Json::array();
  for (const KernelRequest& request : requests->kernels) {
    const auto emitted = emit(request);
    if (!emitted) return std::unexpected(emitted.error());
    if (json) {
      kernels.push_back(emitted_json(*emitted));
    } else {
      fmt::print("{}", emitted->source.text);
    }
  }
  if (json) print_json(requests->several ? Json{{"kernels", kernels}} : kernels.front());
  return ExitCode::success;
}

}  // namespace

void add_emit(CLI::App& app, Context& context) {
  const auto options = std::make_shared<SpecOptions>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "emit",
       .description = "Print the CUDA source of a kernel",
       .examples = "  lutsmith emit --bits 4 --group 128 --n 4096 --k 4096 --target sm_90a > kernel.cu\n"
                   "  lutsmith emit --n 1000 --k 1032 --m 16 --target sm_80 --json",
       .work = [options, &context] { return run_emit(*options, context.json); }});
  add_spec_options(verb, *options);
}

}  // namespace lutsmith::cli
