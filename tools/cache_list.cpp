#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "cache_access.h"
#include "cache_verbs.h"
#include "kernel_json.h"
#include "output.h"
#include "write_file.h"

namespace lutsmith::tools {
namespace {

Json kernel_json(const CachedKernel& kernel) {
  return {{"key", kernel.key.hex()},
          {"bytes", kernel.bytes},
          {"last_used", time_json(kernel.last_used)},
          {"spec", to_json(kernel.description.spec)},
          {"schedule", to_json(kernel.description.schedule)},
          {"compiler", kernel.description.provenance.compiler}};
}

Result<ExitCode> run_ls(const std::string& target, bool json) {
  std::vector<Target> targets;
  if (!target.empty()) {
    auto parsed = parse_targets(target);
    if (!parsed) return std::unexpected(parsed.error());
    targets = *std::move(parsed);
  }
  const auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  const auto listing = list_kernels(*opened->store, targets);
  if (!listing) return std::unexpected(listing.error());
  if (json) {
    Json kernels = Json::array();
    for (const CachedKernel& kernel : listing->kernels) kernels.push_back(kernel_json(kernel));
    print_json({{"directory", opened->store->root().string()},
                {"kernels", kernels},
                {"unreadable", listing->unreadable.size()}});
    return ExitCode::success;
  }
  using enum TextTable::Align;
  TextTable table({{"key", left}, {"kernel", left}, {"size"}, {"last used", left}, {"schedule", left}});
  for (const CachedKernel& kernel : listing->kernels) {
    table.add_row({kernel.key.hex().substr(0, 12), describe(kernel.description.spec),
                   byte_count(static_cast<double>(kernel.bytes)), time_text(kernel.last_used),
                   describe(kernel.description.schedule)});
  }
  table.print();
  if (!listing->unreadable.empty()) {
    print_warning(fmt::format("{} entries are damaged or of another version; see `lutsmith cache verify`",
                              listing->unreadable.size()));
  }
  return ExitCode::success;
}

struct ShowOptions {
  std::string key;
  bool source = false;
  bool cubin = false;
  bool manifest = false;
  std::string output;
};

/// A kernel of the user's directory, else of those that are only read.
Result<std::pair<Description, cache::Entry>> find_kernel(const std::string& digits) {
  auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  auto keys = find_keys(*opened->store, digits);
  std::unique_ptr<cache::DiskStore> store = std::move(opened->store);
  for (const std::filesystem::path& directory : opened->places.system) {
    if (keys || keys.error().code != ErrorCode::not_found) break;
    auto system = cache::DiskStore::open(directory, {.access = cache::Access::read_only});
    if (!system) continue;
    if (auto found = find_keys(**system, digits)) {
      keys = std::move(found);
      store = *std::move(system);
    }
  }
  if (!keys) return std::unexpected(keys.error());
  if (keys->size() > 1) {
    std::string all;
    for (const cache::Key& key : *keys) all += key.hex() + "\n";
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("{} keys begin with {}; give more digits", keys->size(), digits),
                                 all});
  }
  cache::Entry entry;
  auto description = read_kernel(*store, keys->front(), entry);
  if (!description) return std::unexpected(description.error());
  return std::pair(*std::move(description), std::move(entry));
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
  const auto found = find_kernel(options.key);
  if (!found) return std::unexpected(found.error());
  const auto& [description, entry] = *found;
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
  fmt::print("key       {}\nkernel    {}\nschedule  {}\ncompiler  {}\ncubin     {}\nsource    {}\n",
             description.key, describe(description.spec), describe(description.schedule),
             description.provenance.compiler, byte_count(static_cast<double>(entry.payload.size())),
             byte_count(static_cast<double>(description.provenance.source_bytes)));
  return ExitCode::success;
}

}  // namespace

void add_cache_ls(CLI::App& app, Context& context) {
  const auto target = std::make_shared<std::string>();
  CLI::App& verb = add_verb(app, context,
                            {.name = "ls",
                             .description = "List the kernels in the cache directory, those used last first",
                             .examples = "  lutsmith cache ls\n"
                                         "  lutsmith cache ls --target sm_80,sm_90a --json",
                             .work = [target, &context] { return run_ls(*target, context.json); }});
  verb.add_option("--target", *target, "Only kernels for these GPU architectures")->type_name("LIST");
}

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

}  // namespace lutsmith::tools
