#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "lutsmith/error.h"

namespace lutsmith::cli {

/// What the process gives back to the shell. Arguments that are wrong exit with 2 by way of an
/// `Error` whose code is invalid_argument; any other error exits with 1.
enum class ExitCode { success = 0, work_failed = 1, wrong_arguments = 2 };

/// The work of a verb. It prints its own result, as text or as the one JSON document, and returns an
/// error before anything was printed. `work_failed` is for a result that was printed and tells of
/// failures itself.
using Work = std::function<Result<ExitCode>()>;

/// What all verbs share while the command line is read.
struct Context {
  bool json = false;  ///< --json was given
  Work work;          ///< of the verb that was named; main calls it once parsing is over
};

struct Verb {
  std::string name;
  std::string description;  ///< one sentence
  std::string examples;     ///< lines for the end of --help
  Work work;
};

/// Registers a verb with its --json flag. Options are added to the returned subcommand; what they
/// write to must live as long as `verb.work` (a shared_ptr captured by it does).
CLI::App& add_verb(CLI::App& app, Context& context, Verb verb);

// One file per verb implements each of these.
void add_emit(CLI::App& app, Context& context);
void add_compile(CLI::App& app, Context& context);
void add_quantize(CLI::App& app, Context& context);
void add_run(CLI::App& app, Context& context);
void add_warm(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_tune(CLI::App& app, Context& context);
void add_cache(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);
void add_report(CLI::App& app, Context& context);

}  // namespace lutsmith::cli
