#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <span>
#include <string>
#include <string_view>

#include "cli/command.h"
#include "cli/interruption.h"
#include "cli/output/output.h"
#include "cli/standard_descriptors.h"

namespace lutsmith::cli {
namespace {

constexpr const char* kDescription =
    "lutsmith compiles, caches and runs CUDA kernels for matrices whose weights are look-up-table codes.";
constexpr const char* kFooter =
    "Each verb has its own --help with examples.\n"
    "Exit codes: 0 success, 1 the work failed, 2 the arguments are wrong.\n"
    "LUTSMITH_CACHE_DIR sets the kernel cache, LUTSMITH_NVRTC the compiler library.";
constexpr const char* kNoOutput = "standard output could not be written";

int report(const Error& error, bool json) {
  print_error(error, json);
  return static_cast<int>(error.code == ErrorCode::invalid_argument ? ExitCode::wrong_arguments
                                                                    : ExitCode::work_failed);
}

/// What to say where one of several verbs has to follow and none of them does.
std::string missing_verb(const CLI::App& app) {
  std::string allowed;
  for (const CLI::App* verb : app.get_subcommands(nullptr)) {
    allowed += (allowed.empty() ? "" : ", ") + verb->get_name();
  }
  for (const std::string& word : app.remaining()) {
    if (word != "--json") return fmt::format("'{}' is no verb; allowed: {}", word, allowed);
  }
  return fmt::format("a verb is missing; allowed: {}", allowed);
}

int report_parse_error(const CLI::App& app, const CLI::ParseError& error, bool json) {
  std::string help = "lutsmith";
  const CLI::App* verb = &app;
  while (!verb->get_subcommands().empty()) {
    verb = verb->get_subcommands().front();
    help += " " + verb->get_name();
  }
  const bool verb_missing =
      verb->get_require_subcommand_min() > 0 && dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  const std::string message = verb_missing ? missing_verb(*verb) : error.what();
  return report(Error{ErrorCode::invalid_argument, message, "see `" + help + " --help`"}, json);
}

void add_verbs(CLI::App& app, Context& context) {
  add_emit(app, context);
  add_compile(app, context);
  add_quantize(app, context);
  add_run(app, context);
  add_warm(app, context);
  add_tune(app, context);
  add_bench(app, context);
  add_cache(app, context);
  add_report(app, context);
  add_doctor(app, context);
}

int run_command_line(std::span<char*> arguments) {
  // A line that cannot be parsed still has to answer in the form that was asked for.
  const bool json_wanted = std::ranges::any_of(
      arguments.subspan(1), [](std::string_view argument) { return argument == "--json"; });
  CLI::App app(kDescription, "lutsmith");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string(LUTSMITH_VERSION));
  app.require_subcommand(1);
  Context context;
  add_verbs(app, context);
  try {
    app.parse(static_cast<int>(arguments.size()), arguments.data());
  } catch (const CLI::Success& help_or_version) {
    return app.exit(help_or_version, std::cout, std::cout);
  } catch (const CLI::ParseError& error) {
    return report_parse_error(app, error, json_wanted);
  }
  try {
    const Result<ExitCode> code = context.work();
    if (!code) return report(code.error(), context.json);
    return static_cast<int>(*code);
  } catch (const std::exception& exception) {  // memory that ran out, a library's surprise
    if (std::ferror(stdout) != 0) {
      return report(Error{ErrorCode::io_error, kNoOutput, {}}, /*json=*/false);
    }
    return report(Error{ErrorCode::out_of_memory, fmt::format("out of resources: {}", exception.what()), {}},
                  context.json);
  }
}

// A full disk or a closed pipe shows only when the buffers are written out.
bool flush_output() {
  std::cout.flush();
  return std::cout.good() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

}  // namespace
}  // namespace lutsmith::cli

int main(int argc, char** argv) {
  using namespace lutsmith::cli;
  fill_standard_descriptors();
  clean_up_when_interrupted();
  int code = static_cast<int>(ExitCode::work_failed);
  try {
    code = run_command_line(std::span(argv, static_cast<std::size_t>(argc)));
  } catch (const std::exception& exception) {
    print_to_stderr(fmt::format("lutsmith: error: {}\n", exception.what()));
  }
  if (!flush_output() && code == static_cast<int>(ExitCode::success)) {
    print_error(lutsmith::Error{lutsmith::ErrorCode::io_error, kNoOutput, {}}, /*json=*/false);
    code = static_cast<int>(ExitCode::work_failed);
  }
  return code;
}
