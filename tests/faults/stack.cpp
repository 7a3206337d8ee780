#include "stack.h"

#include <fcntl.h>
#include <unistd.h>

#include <string_view>
#include <thread>
#include <utility>

#include "service/open_store.h"
#include "synthetic_cubin.h"

namespace lutsmith {
namespace {

/// Takes its time, and leaves a byte in a file for every compile, whichever process it is in.
class CountingCompiler final : public Compiler {
 public:
  CountingCompiler(std::filesystem::path count, StackOptions options)
      : count_(std::move(count)), options_(std::move(options)) {}
  const std::string& identity() const override { return options_.compiler; }
  std::string options(Target /*target*/) const override { return {}; }
  Result<CompiledKernel> compile(const std::string& /*source*/, Target target,
                                 const std::string& kernel) const override {
    const int file = open(count_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const bool counted = write(file, "x", 1) == 1;
    close(file);
    std::this_thread::sleep_for(options_.compile_time);
    if (!counted) return std::unexpected(Error{ErrorCode::io_error, "cannot count", {}});
    return CompiledKernel{
        .cubin = options_.cubin ? options_.cubin(target, kernel) : synthetic_cubin(target, kernel),
        .log = {}};
  }

 private:
  std::filesystem::path count_;
  StackOptions options_;
};

/// Every request has a kernel of its own name, so that no other can pass for it.
SourceGenerator sources() {
  return {
      .candidates = [](const KernelSpec&, const choices::Gpu*) -> Result<std::vector<choices::Candidate>> {
        return std::vector{choices::Candidate{.choice = Schedule(FewTokensSchedule{})}};
      },
      .render = [](const KernelSpec& spec, const Schedule&) -> Result<Source> {
        return Source{
            .text = describe(spec), .kernel_name = "kern_" + std::to_string(spec.format.n), .launch = {}};
      }};
}

}  // namespace

std::unique_ptr<KernelProvider> FaultTest::provider(StackOptions options) {
  options.service.log = [this](LogLevel, std::string_view text) {
    const std::lock_guard lock(mutex_);
    warnings_.emplace_back(text);
  };
  if (options.service.cache_directory.empty()) options.service.cache_directory = root();
  std::unique_ptr<cache::Store> store = open_store(options.service).store;
  if (options.wrap) store = options.wrap(std::move(store));
  KernelProvider::Options provider{.log = options.service.log,
                                   .policy = options.policy,
                                   .jobs = options.jobs,
                                   .longest_wait = options.longest_wait};
  return std::make_unique<KernelProvider>(
      sources(), std::make_unique<CountingCompiler>(directory_.path() / "count", options), std::move(store),
      std::move(provider));
}

bool FaultTest::is_right(KernelProvider& provider, int number) {
  const Request wanted = request(number);
  const std::string name = "kern_" + std::to_string(wanted.spec.format.n);
  const auto compiled = provider.compile(wanted);
  return compiled && compiled->artifact->kernel_name == name &&
         compiled->artifact->cubin == synthetic_cubin(wanted.spec.target, name);
}

int FaultTest::compiles() const {
  std::error_code none;
  const auto bytes = std::filesystem::file_size(directory_.path() / "count", none);
  return none ? 0 : static_cast<int>(bytes);
}

std::vector<std::filesystem::path> FaultTest::files(const std::string& part) const {
  std::vector<std::filesystem::path> found;
  std::error_code none;
  for (const auto& file : std::filesystem::recursive_directory_iterator(root(), none)) {
    if (file.path().filename().string().contains(part)) found.push_back(file.path());
  }
  return found;
}

std::vector<std::string> FaultTest::warnings() const {
  const std::lock_guard lock(mutex_);
  return warnings_;
}

}  // namespace lutsmith
