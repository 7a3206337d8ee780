#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <memory>

#include "cache/places.h"
#include "cache/stores/disk_store.h"
#include "cache/stores/remote_store.h"
#include "cli/command.h"
#include "cli/environment.h"
#include "cli/output/output.h"
#include "cli/verbs/cache/cache_access.h"
#include "emulator/host_compiler.h"
#include "runtime/cuda_version.h"
#include "runtime/driver.h"
#include "runtime/nvrtc.h"

namespace lutsmith::cli {
namespace {

constexpr const char* kTrialKernel = "trial";
constexpr const char* kTrialSource =
    "extern \"C\" __global__ void trial(float* out) { out[threadIdx.x] = 1.0F; }";

/// One thing that was looked for.
struct Finding {
  std::string name;
  bool ok = false;
  std::string summary;
  std::string advice;  ///< what to do; empty where all is well
  Json facts = Json::object();
  std::string_view fault = "missing";  ///< one word for what is not ok
};

Finding missing(std::string name, const Error& error, std::string advice) {
  Finding finding{
      .name = std::move(name), .summary = error.message, .advice = std::move(advice), .facts = {}};
  finding.facts = {{"error", to_json(error)}};
  if (!error.context.empty()) finding.advice += "\n" + error.context;
  return finding;
}

/// Compiles a line in earnest: a library that opens may still lack the rest of its package.
Result<void> try_compiler(const Nvrtc& nvrtc, std::string_view target) {
  const auto parsed = Target::parse(target);
  if (!parsed) return std::unexpected(parsed.error());
  const auto compiled = nvrtc.compile(kTrialSource, *parsed, kTrialKernel);
  return compiled ? Result<void>() : std::unexpected(compiled.error());
}

std::string with_passed_over(const Nvrtc& nvrtc, std::string advice) {
  for (const std::string& sentence : nvrtc.passed_over()) {
    if (!advice.empty()) advice += "\n";
    advice += sentence + "; passed over";
  }
  return advice;
}

Finding describe_compiler(const Nvrtc& nvrtc) {
  std::vector<std::string_view> known;
  std::vector<std::string_view> too_new;
  for (const TargetTraits& traits : Target::all()) {
    const auto target = Target::parse(traits.name);
    (target && nvrtc.check_target(*target) ? known : too_new).push_back(traits.name);
  }
  Finding finding{.name = "compiler", .ok = !known.empty(), .summary = {}, .advice = {}, .facts = {}};
  finding.summary = fmt::format("NVRTC {}, {} ({})\n{}\ncompiles for {}", cuda_version_text(nvrtc.version()),
                                nvrtc.library(), nvrtc.origin(), nvrtc.identity(), fmt::join(known, ", "));
  if (!too_new.empty()) {
    finding.advice = fmt::format("install a newer NVRTC to compile for {}", fmt::join(too_new, ", "));
  }
  finding.facts = {{"library", nvrtc.library()},
                   {"found_by", nvrtc.origin()},
                   {"version", cuda_version_text(nvrtc.version())},
                   {"identity", nvrtc.identity()},
                   {"passed_over", nvrtc.passed_over()},
                   {"targets", known}};
  if (known.empty()) return finding;
  if (const auto tried = try_compiler(nvrtc, known.front()); !tried) {
    finding.ok = false;
    finding.fault = "broken";
    finding.summary = tried.error().message;
    finding.advice = "nothing can be compiled";
    if (!tried.error().context.empty()) finding.advice += "\n" + tried.error().context;
    finding.facts["error"] = to_json(tried.error());
  }
  finding.advice = with_passed_over(nvrtc, std::move(finding.advice));
  return finding;
}

Finding look_for_compiler(const Result<std::unique_ptr<Nvrtc>>& nvrtc) {
  if (nvrtc) return describe_compiler(**nvrtc);
  return missing("compiler", nvrtc.error(),
                 "nothing can be compiled; install a CUDA toolkit or NVRTC's Python wheel, or point "
                 "LUTSMITH_NVRTC at libnvrtc.so");
}

Finding look_for_driver(const Result<const cuda::Driver*>& driver, const Nvrtc* nvrtc) {
  if (!driver) {
    return missing("driver", driver.error(),
                   "only needed to run kernels; emit, compile, warm and quantize work without it");
  }
  Finding finding{.name = "driver", .ok = true, .summary = {}, .advice = {}, .facts = {}};
  const int version = (*driver)->version();
  finding.summary = fmt::format("supports CUDA {}, {}", cuda_version_text(version), (*driver)->library());
  finding.facts = {{"version", cuda_version_text(version)}, {"library", (*driver)->library()}};
  if (nvrtc != nullptr && nvrtc->version() / 1000 > version / 1000) {
    finding.advice = fmt::format(
        "what NVRTC {} compiles may not load on it: update the driver, or name an NVRTC of CUDA {} in "
        "LUTSMITH_NVRTC",
        cuda_version_text(nvrtc->version()), version / 1000);
  }
  return finding;
}

Finding look_for_gpu(const cuda::Driver& driver, int ordinal) {
  const std::string name = fmt::format("gpu {}", ordinal);
  const auto device = driver.device(ordinal);
  if (!device) return missing(name, device.error(), "check the GPU with nvidia-smi");
  const auto target = Target::from_compute_capability(device->major, device->minor);
  Finding finding{.name = name, .ok = target.has_value(), .summary = {}, .advice = {}, .facts = {}};
  finding.summary =
      fmt::format("{}, {}, {} multiprocessors, {}, L2 {}", device->name,
                  target ? std::string(target->name())
                         : fmt::format("compute capability {}.{}", device->major, device->minor),
                  device->multiprocessors, byte_count(device->memory_bytes), byte_count(device->l2_bytes));
  if (!target) finding.advice = target.error().message;
  finding.facts = {{"name", device->name},
                   {"compute_capability", fmt::format("{}.{}", device->major, device->minor)},
                   {"multiprocessors", device->multiprocessors},
                   {"memory_bytes", device->memory_bytes},
                   {"l2_bytes", device->l2_bytes}};
  finding.facts["target"] = target ? Json(target->name()) : Json();
  return finding;
}

std::vector<Finding> look_for_gpus(const Result<const cuda::Driver*>& driver) {
  const auto none = [](const Error& error) {
    return std::vector{
        missing("gpu", error, "needed for bench and to run kernels; give --target to compile for one")};
  };
  if (!driver) return none({driver.error().code, "none, as there is no driver to ask", {}});
  const auto count = (*driver)->device_count();
  if (!count) return none(count.error());
  if (*count == 0) return none({ErrorCode::not_found, "the driver knows of no GPU", {}});
  std::vector<Finding> findings;
  for (int ordinal = 0; ordinal < *count; ++ordinal) findings.push_back(look_for_gpu(**driver, ordinal));
  return findings;
}

/// What a directory holds, in words and as facts.
Finding describe_directory(std::string name, cache::DiskStore& store, bool writable) {
  std::uint64_t entries = 0;
  std::uint64_t bytes = 0;
  const auto scanned = store.scan([&](const cache::StoredEntry& entry) {
    ++entries;
    bytes += entry.bytes;
    return true;
  });
  if (!scanned) return missing(std::move(name), scanned.error(), "");
  const std::string root = store.root().string();
  Finding finding{.name = std::move(name), .ok = true, .summary = {}, .advice = {}, .facts = {}};
  finding.summary = fmt::format("{}, {}, {}, {}", root, writable ? "writable" : "read-only",
                                counted(entries, "kernel"), byte_count(bytes));
  finding.facts = {{"directory", root}, {"writable", writable}, {"entries", entries}, {"bytes", bytes}};
  return finding;
}

Finding look_for_cache(const cache::Places& places) {
  const std::string advice =
      "kernels are compiled anew by every process; set LUTSMITH_CACHE_DIR to a directory of your own";
  const auto store = open_own_directory(places, cache::Access::read_write);
  if (!store) return missing("cache", {store.error().code, store.error().message, {}}, advice);
  const bool writable = access((*store)->root().c_str(), W_OK | X_OK) == 0;
  Finding finding = describe_directory("cache", **store, writable);
  if (!finding.ok) return finding;
  finding.ok = writable;
  finding.fault = "limited";
  finding.summary += "\n" + limits_text(places.limits);
  finding.facts["limits"] = {{"bytes", places.limits.bytes}, {"entries", places.limits.entries}};
  if (!writable) finding.advice = "what is there is used; new " + advice;
  return finding;
}

std::vector<Finding> look_for_system_directories(const cache::Places& places) {
  std::vector<Finding> findings;
  for (const SystemDirectory& system : open_system_directories(places)) {
    findings.push_back(system.store ? describe_directory("system", **system.store, /*writable=*/false)
                                    : missing("system", system.store.error(),
                                              "LUTSMITH_CACHE_PATH names it; it is passed over"));
    findings.back().facts["directory"] = system.path.string();
  }
  return findings;
}

/// Asks the server for a kernel that nobody has.
std::vector<Finding> look_for_remote(const cache::Places& places) {
  if (places.remote.url.empty()) return {};
  const std::string advice = "LUTSMITH_REMOTE_CACHE names it; kernels are not shared";
  const auto url = shown_url(places.remote);
  if (!url) return {missing("remote", url.error(), advice)};
  const auto store = cache::RemoteStore::open(places.remote);
  if (!store) return {missing("remote", store.error(), advice)};
  auto answer = (*store)->get(
      cache::Key::of({.source = "a question of doctor's", .options = {}, .compiler = {}, .target = {}}));
  if (answer && answer->state != cache::LookupState::miss) {
    answer = std::unexpected(Error{ErrorCode::corrupt_data,
                                   *url + " claims to have a kernel that nobody has; is it a cache?",
                                   answer->note});
  }
  Finding finding =
      answer ? Finding{.name = "remote", .ok = true, .summary = {}, .advice = {}, .facts = Json::object()}
             : missing("remote", answer.error(), advice);
  if (answer)
    finding.summary = fmt::format("{} answers{}", *url, places.remote.read_only ? ", only read" : "");
  finding.facts["url"] = *url;
  finding.facts["read_only"] = places.remote.read_only;
  return {finding};
}

/// Settings that make no sense, or that nothing reads.
std::vector<Finding> look_for_complaints(std::vector<std::string> complaints) {
  std::ranges::move(environment_complaints(process_environment()), std::back_inserter(complaints));
  std::vector<Finding> findings;
  for (const std::string& complaint : complaints) {
    findings.push_back(
        missing("setting", {ErrorCode::invalid_argument, complaint, {}}, "correct it, or leave it out"));
    findings.back().fault = "wrong";
  }
  return findings;
}

Finding look_for_host_compiler() {
  const auto compiler = emulator::HostCompiler::find();
  if (!compiler) {
    return missing("emulator", compiler.error(), "only needed for `lutsmith run --emulate`");
  }
  Finding finding{.name = "emulator", .ok = true, .summary = {}, .advice = {}, .facts = {}};
  finding.summary = fmt::format("`lutsmith run --emulate` compiles with {}", compiler->path());
  finding.facts = {{"host_compiler", compiler->path()}};
  return finding;
}

void print_lines(std::string_view label, std::string_view state, std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    fmt::print("{:<9} {:<8} {}\n", label, state, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    label = state = "";
  }
}

void print_findings(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    print_lines(finding.name, finding.ok ? "ok" : finding.fault, finding.summary);
    print_lines("", "", finding.advice);
  }
}

Json findings_json(const std::vector<Finding>& findings) {
  Json json = Json::object();
  Json gpus = Json::array();
  Json systems = Json::array();
  Json settings = Json::array();
  for (const Finding& finding : findings) {
    Json entry{{"ok", finding.ok}};
    entry.update(finding.facts);
    if (!finding.advice.empty()) entry["advice"] = finding.advice;
    if (finding.name == "system") {
      systems.push_back(entry);
    } else if (finding.name == "setting") {
      settings.push_back(entry);
    } else if (!finding.name.starts_with("gpu")) {
      json[finding.name] = entry;
    } else if (finding.name != "gpu") {
      gpus.push_back(entry);
    }
  }
  json["gpus"] = gpus;
  json["system_directories"] = systems;
  json["wrong_settings"] = settings;
  return json;
}

Result<ExitCode> run_doctor(bool json) {
  const auto nvrtc = Nvrtc::open(nvrtc_places(NvrtcEnvironment::of_process({})));
  std::vector<Finding> findings{look_for_compiler(nvrtc)};
  const auto driver = cuda::Driver::open();
  findings.push_back(look_for_driver(driver, nvrtc ? nvrtc->get() : nullptr));
  for (Finding& gpu : look_for_gpus(driver)) findings.push_back(std::move(gpu));
  const cache::Places places = cache::places(cache::PlacesEnvironment::of_process());
  findings.push_back(look_for_cache(places));
  for (Finding& directory : look_for_system_directories(places)) findings.push_back(std::move(directory));
  for (Finding& server : look_for_remote(places)) findings.push_back(std::move(server));
  for (Finding& complaint : look_for_complaints(places.complaints)) findings.push_back(std::move(complaint));
  findings.push_back(look_for_host_compiler());
  if (json) {
    print_json(findings_json(findings));
  } else {
    print_findings(findings);
  }
  return findings.front().ok ? ExitCode::success : ExitCode::work_failed;
}

}  // namespace

void add_doctor(CLI::App& app, Context& context) {
  add_verb(
      app, context,
      {.name = "doctor",
       .description = "Tell which compiler, driver, GPU and cache were found, and what to do about the rest",
       .examples = "  lutsmith doctor\n"
                   "  lutsmith doctor --json\n"
                   "Exit code 1 only where nothing can be compiled; a GPU is not needed for that.",
       .work = [&context] { return run_doctor(context.json); }});
}

}  // namespace lutsmith::cli
