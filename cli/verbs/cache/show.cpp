#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "cli/output/output.h"
#include "cli/output/write_file.h"
#include "cli/verbs/cache/cache_access.h"
#include "cli/verbs/cache/cache_verbs.h"

namespace lutsmith::cli {
namespace {

struct ShowOptions {
  std::string key;
  bool source = false;
  bool cubin = false;
  bool manifest = false;
  std::string output;
};

struct FoundKernel {
  Description description;
  cache::Entry entry;
  std::filesystem::path file;
};

/// A kernel of the user's directory, else of those that are only read.
Result<FoundKernel> find_kernel(const std::string& digits) {
  auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  auto keys = find_keys(*opened->store, digits);
  std::unique_ptr<cache::DiskStore> store = std::move(opened->store);
  for (SystemDirectory& system : open_system_directories(opened->places)) {
    if (keys || keys.error().code != ErrorCode::not_found) break;
    if (!system.store) continue;
    if (auto found = find_keys(**system.store, digits)) {
      keys = std::move(found);
      store = *std::move(system.store);
    }
  }
  if (!keys) {
    Error error = keys.error();
    if (error.code == ErrorCode::not_found && !opened->places.system.empty()) {
      error.context = "nor has one in the directories of LUTSMITH_CACHE_PATH";
    }
    return std::unexpected(std::move(error));
  }
  if (keys->size() > 1) {
    std::string all;
    for (const cache::Key& key : *keys) all += key.hex() + "\n";
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("{} keys begin with {}; give more digits", keys->size(), digits),
                                 all});
  }
  cache::Entry entry;
  auto description = read_kernel(*store, keys->front(), entry);
  if (!description) {
    Error error = description.error();
    if (error.code == ErrorCode::corrupt_data) error.context = "see `lutsmith cache verify`";
    return std::unexpected(std::move(error));
  }
  return FoundKernel{*std::move(description), std::move(entry), store->path_of(keys->front())};
}

Result<ExitCode> deliver(const ShowOptions& options, std::span<const std::byte> bytes) {
  if (!options.output.empty()) {
    const auto written = write_file(options.output, bytes);
    if (!written) return std::unexpected(written.error());
    return ExitCode::success;
  }
  if (options.cubin && isatty(STDOUT_FILENO) == 1) {
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 "a cubin is no text for a terminal; give -o FILE, or redirect the output",
                                 {}});
  }
  std::fwrite(bytes.data(), 1, bytes.size(), stdout);  // main tells where the output could not be written
  return ExitCode::success;
}

Result<ExitCode> run_show(const ShowOptions& options, bool json) {
  if (options.source + options.cubin + options.manifest + json > 1) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument, "give one of --source, --cubin, --manifest and --json", {}});
  }
  if (!options.output.empty() && !options.source && !options.cubin && !options.manifest) {
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("nothing to write to {}: --output goes with --source, --cubin "
                                             "or --manifest",
                                             options.output),
                                 {}});
  }
  const auto found = find_kernel(options.key);
  if (!found) return std::unexpected(found.error());
  const auto& [description, entry, file] = *found;
  if (options.cubin) return deliver(options, entry.payload);
  if (options.source) {
    const auto source = source_of(description);
    if (!source) return std::unexpected(source.error());
    return deliver(options, std::as_bytes(std::span(source->text)));
  }
  if (options.manifest) {
    const std::string text = entry.manifest + "\n";
    return deliver(options, std::as_bytes(std::span(text)));
  }
  if (json) {
    print_json(Json::parse(entry.manifest));
    return ExitCode::success;
  }
  fmt::print("key       {}\n", description.key);
  fmt::print("kernel    {}\n", describe(description.spec));
  fmt::print("schedule  {}\n", describe(description.schedule));
  fmt::print("compiler  {}\n", description.provenance.compiler);
  fmt::print("cubin     {}\n", byte_count(entry.payload.size()));
  fmt::print("source    {}\n", byte_count(description.provenance.source_bytes));
  fmt::print("file      {}\n", file.string());
  return ExitCode::success;
}

}  // namespace

void add_cache_show(CLI::App& app, Context& context) {
  const auto options = std::make_shared<ShowOptions>();
  CLI::App& verb = add_verb(app, context,
                            {.name = "show",
                             .description = "Show one kernel: its summary, manifest, CUDA source or cubin",
                             .examples = "  lutsmith cache show 3f2a91\n"
                                         "  lutsmith cache show 3f2a91 --source > kernel.cu\n"
                                         "  lutsmith cache show 3f2a91 --cubin -o kernel.cubin",
                             .work = [options, &context] { return run_show(*options, context.json); }});
  verb.add_option("key", options->key, "The first digits of its key, as `cache ls` prints them")
      ->required()
      ->type_name("KEY");
  verb.add_flag("--source", options->source, "Print the CUDA source it was compiled from");
  verb.add_flag("--cubin", options->cubin, "Write the binary");
  verb.add_flag("--manifest", options->manifest, "Print the JSON that is kept with it");
  verb.add_option("-o,--output", options->output, "Write to this file instead of standard output")
      ->type_name("FILE");
}

}  // namespace lutsmith::cli
