#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/bundles/bundle.h"
#include "choices/database.h"
#include "choices/document_entry.h"
#include "cli/output/output.h"
#include "cli/output/progress.h"
#include "cli/verbs/cache/cache_access.h"
#include "cli/verbs/cache/cache_verbs.h"

namespace lutsmith::cli {
namespace {

constexpr std::chrono::minutes kLongestPruning{1};

struct ExportArguments {
  std::vector<std::string> keys;
  std::string target;
  std::string sign;
  std::string output;
  bool no_tuned = false;
};

struct ImportArguments {
  std::string bundle;
  std::string trust;
  bool allow_unsigned = false;
};

Result<std::vector<Target>> chosen_targets(const ExportArguments& arguments) {
  if (arguments.target.empty()) return std::vector<Target>{};
  return parse_targets(arguments.target);
}

Result<std::vector<cache::Key>> chosen_keys(cache::DiskStore& store, const ExportArguments& arguments,
                                            const std::vector<Target>& targets) {
  std::vector<cache::Key> keys;
  for (const std::string& digits : arguments.keys) {
    const auto found = find_keys(store, digits);
    if (!found) return found;
    keys.insert(keys.end(), found->begin(), found->end());
  }
  if (!arguments.keys.empty()) return keys;
  const auto listing = list_kernels(store, targets);
  if (!listing) return std::unexpected(listing.error());
  for (const CachedKernel& kernel : listing->kernels) keys.push_back(kernel.key);
  // Asked for too, so that nobody takes the bundle for a whole one.
  for (const cache::StoredEntry& entry : listing->damaged) keys.push_back(entry.key);
  return keys;
}

/// Documents of tuned choices that go in, and what is wrong with those that cannot.
struct ChosenDocuments {
  std::vector<cache::OtherEntry> entries;
  std::vector<std::string> complaints;
};

/// Whoever names single kernels wants these alone.
ChosenDocuments chosen_documents(const cache::DiskStore& store, const ExportArguments& arguments,
                                 const std::vector<Target>& targets) {
  ChosenDocuments chosen;
  if (arguments.no_tuned || !arguments.keys.empty()) return chosen;
  const choices::Database database(store.root(), {});
  const auto complain = [&chosen](std::string_view text) { chosen.complaints.emplace_back(text); };
  for (const choices::Document& document : database.read_all_own(complain)) {
    if (!targets.empty() && std::ranges::find(targets, document.gpu().target) == targets.end()) continue;
    chosen.entries.push_back(choices::to_entry(document));
  }
  return chosen;
}

/// "3 kernels", "3 kernels and the tuned choices of 1 GPU".
std::string contents_text(std::size_t kernels, std::size_t documents) {
  std::string text = counted(kernels, "kernel");
  if (documents > 0) text += fmt::format(" and the tuned choices of {}", counted(documents, "GPU"));
  return text;
}

/// A bar that is told how many steps there are with the first of them.
cache::BundleProgress show_progress(std::optional<Progress>& bar) {
  return [&bar](std::size_t /*done*/, std::size_t total) {
    if (!bar) bar.emplace(total);
    bar->advance("");
  };
}

/// How a bundle is signed, in words.
std::string signed_by(const std::string& fingerprint) {
  return fingerprint.empty() ? "not signed" : "signed by " + fingerprint;
}

void print_export(const ExportArguments& arguments, const cache::ExportSummary& exported,
                  const std::vector<std::string>& complaints, const std::string& fingerprint, bool json) {
  for (const cache::LeftOut& entry : exported.left_out) {
    print_warning(fmt::format("{} was left out: {}", entry.key.hex(), entry.reason));
  }
  for (const std::string& complaint : complaints) print_warning(complaint);
  if (!json) {
    fmt::print("{}: {}, {}, {}\n", arguments.output, contents_text(exported.entries, exported.others),
               byte_count(exported.bytes), signed_by(fingerprint));
    return;
  }
  Json left_out = Json::array();
  for (const cache::LeftOut& entry : exported.left_out) {
    left_out.push_back({{"key", entry.key.hex()}, {"reason", entry.reason}});
  }
  for (const std::string& complaint : complaints) left_out.push_back({{"key", ""}, {"reason", complaint}});
  print_json({{"bundle", arguments.output},
              {"entries", exported.entries},
              {"tuned_documents", exported.others},
              {"bytes", exported.bytes},
              {"left_out", left_out},
              {"signer", fingerprint}});
}

Result<ExitCode> run_export(const ExportArguments& arguments, bool json) {
  if (!arguments.keys.empty() && !arguments.target.empty()) {
    return std::unexpected(Error{ErrorCode::invalid_argument, "give either keys or --target", {}});
  }
  std::optional<cache::SigningKey> signer;
  if (!arguments.sign.empty()) {
    auto key = cache::SigningKey::read_pem(arguments.sign);
    if (!key) return std::unexpected(key.error());
    signer = *std::move(key);
  }
  const auto opened = open_cache(cache::Access::read_only);
  if (!opened) return std::unexpected(opened.error());
  const auto targets = chosen_targets(arguments);
  if (!targets) return std::unexpected(targets.error());
  const auto keys = chosen_keys(*opened->store, arguments, *targets);
  if (!keys) return std::unexpected(keys.error());
  const ChosenDocuments documents = chosen_documents(*opened->store, arguments, *targets);
  if (keys->empty() && documents.entries.empty()) {
    return std::unexpected(Error{
        ErrorCode::not_found,
        fmt::format("{} has no kernel to export; fill it by `lutsmith warm`", opened->store->root().native()),
        documents.complaints.empty() ? "" : documents.complaints.front()});
  }
  std::optional<Progress> bar;
  const auto exported = cache::export_bundle(
      *opened->store, *keys, arguments.output,
      {.signer = signer ? &*signer : nullptr, .others = documents.entries, .progress = show_progress(bar)});
  bar.reset();
  if (!exported) return std::unexpected(exported.error());
  print_export(arguments, *exported, documents.complaints, signer ? signer->fingerprint() : "", json);
  return exported->left_out.empty() && documents.complaints.empty() ? ExitCode::success
                                                                    : ExitCode::work_failed;
}

/// How many of the kernels that an import put or found are gone again, for the limits of the directory. Those
/// used longest ago go first, so where any of the bundle's went, none but them is left.
Result<std::size_t> count_lost(cache::DiskStore& store, std::size_t expected) {
  store.flush(kLongestPruning);
  const auto keys = cache::all_keys(store);
  if (!keys) return std::unexpected(keys.error());
  return expected - std::min(expected, keys->size());
}

/// Takes documents of tuned choices out of a bundle into the database, which merges them.
cache::OtherPlace place_of_documents(const choices::Database& database) {
  return {.takes = [](const cache::Key& key, const cache::Entry& entry) -> Result<bool> {
            const auto document = choices::read_entry(key, entry);
            if (!document) return std::unexpected(document.error());
            return document->has_value();
          },
          .put = [&database](const cache::Key& key, const cache::Entry& entry) -> Result<void> {
            const auto document = choices::read_entry(key, entry);
            if (!document) return std::unexpected(document.error());
            return *document ? database.add(**document) : Result<void>{};
          }};
}

Result<ExitCode> run_import(const ImportArguments& arguments, bool json) {
  if (!arguments.trust.empty() && arguments.allow_unsigned) {
    return std::unexpected(Error{ErrorCode::invalid_argument, "give either --trust or --allow-unsigned", {}});
  }
  std::optional<cache::VerificationKey> trusted;
  if (!arguments.trust.empty()) {
    auto key = cache::VerificationKey::read_pem(arguments.trust);
    if (!key) return std::unexpected(key.error());
    trusted = *std::move(key);
  }
  const auto opened = open_cache(cache::Access::read_write);
  if (!opened) return std::unexpected(opened.error());
  const choices::Database database(opened->store->root(), {});
  const cache::OtherPlace tuned = place_of_documents(database);
  std::optional<Progress> bar;
  const auto imported = cache::import_bundle(
      arguments.bundle, *opened->store,
      {.trusted = trusted ? &*trusted : nullptr,
       .unsigned_bundles = arguments.allow_unsigned ? cache::Unsigned::allow : cache::Unsigned::refuse,
       .other = &tuned,
       .progress = show_progress(bar)});
  bar.reset();
  if (!imported) {
    Error error = imported.error();
    if (!trusted && error.code == ErrorCode::invalid_argument) {
      error.context =
          "--trust FILE takes what the owner of that public key signed, --allow-unsigned what nobody signed";
    }
    return std::unexpected(std::move(error));
  }
  const std::string directory = opened->store->root().string();
  const auto lost = count_lost(*opened->store, imported->imported + imported->present);
  if (!lost) return std::unexpected(lost.error());
  if (json) {
    print_json({{"directory", directory},
                {"imported", imported->imported},
                {"present", imported->present},
                {"newer", imported->newer},
                {"tuned_documents", imported->others},
                {"lost", *lost},
                {"created", imported->created},
                {"signer", imported->signer}});
  } else {
    fmt::print("{}: {} imported, {} there already; {}\n", directory,
               contents_text(imported->imported, imported->others), imported->present + imported->newer,
               signed_by(imported->signer));
  }
  if (*lost == 0) return ExitCode::success;
  print_warning(fmt::format("{} of the bundle had to go again: {} takes {}", counted(*lost, "kernel"),
                            directory, limits_text(opened->places.limits)));
  return ExitCode::work_failed;
}

}  // namespace

void add_cache_export(CLI::App& app, Context& context) {
  const auto arguments = std::make_shared<ExportArguments>();
  CLI::App& verb =
      add_verb(app, context,
               {.name = "export",
                .description = "Write kernels and tuned choices into one bundle file, for machines without a "
                               "network",
                .examples = "  openssl genpkey -algorithm ed25519 -out key.pem\n"
                            "  lutsmith cache export -o kernels.bundle --sign key.pem\n"
                            "  lutsmith cache export -o hopper.bundle --target sm_90a",
                .work = [arguments, &context] { return run_export(*arguments, context.json); }});
  verb.add_option("keys", arguments->keys,
                  "First digits of keys; all kernels and tuned choices where none is given")
      ->type_name("KEY");
  verb.add_option("--target", arguments->target, "Only kernels and tuned choices for these GPU architectures")
      ->type_name("LIST");
  verb.add_flag("--no-tuned", arguments->no_tuned, "Leave out the choices that were tuned");
  verb.add_option("--sign", arguments->sign, "Private Ed25519 key (PEM) to sign the bundle with")
      ->type_name("FILE");
  verb.add_option("-o,--output", arguments->output, "The bundle")->required()->type_name("FILE");
}

void add_cache_import(CLI::App& app, Context& context) {
  const auto arguments = std::make_shared<ImportArguments>();
  CLI::App& verb = add_verb(
      app, context,
      {.name = "import",
       .description = "Take the kernels and tuned choices of a bundle file into the cache directory",
       .examples = "  openssl pkey -in key.pem -pubout -out key.pub      (where the key is)\n"
                   "  lutsmith cache import kernels.bundle --trust key.pub\n"
                   "All of a bundle is checked first: where anything in it is wrong, nothing is imported.",
       .work = [arguments, &context] { return run_import(*arguments, context.json); }});
  verb.add_option("bundle", arguments->bundle, "The bundle")->required()->type_name("FILE");
  verb.add_option("--trust", arguments->trust, "Public Ed25519 key (PEM) that must have signed it")
      ->type_name("FILE");
  verb.add_flag("--allow-unsigned", arguments->allow_unsigned,
                "Take a bundle nobody signed: whoever made it can run code on this machine's GPUs");
}

}  // namespace lutsmith::cli
