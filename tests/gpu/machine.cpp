#include "machine.h"

#include <algorithm>
#include <atomic>
#include <thread>

namespace lutsmith::gpu_test {
namespace {

Result<Machine> open_machine() {
  const Result<const cuda::Driver*> driver = cuda::Driver::open();
  if (!driver) return std::unexpected(driver.error());
  const int devices = must((*driver)->device_count());
  if (devices == 0) return std::unexpected(Error{ErrorCode::not_found, "the driver sees no GPU", ""});
  must((*driver)->ensure_context());
  ServiceOptions options;
  options.memory_only = true;
  Service service = must(Service::open(options));
  const Target target = must(service.native_target());
  return Machine{*driver, must((*driver)->device(must((*driver)->current_device()))), target,
                 std::move(service)};
}

}  // namespace

Result<Machine>& machine() {
  static Result<Machine> opened = open_machine();
  return opened;
}

void precompile(const std::vector<KernelRequest>& requests) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < requests.size(); i = next++) {
      [[maybe_unused]] const auto compiled =
          machine()->service.compile(requests[i].spec, requests[i].schedule);
    }
  };
  std::vector<std::jthread> threads;
  const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
  for (std::size_t i = 0; i < std::min(cores, requests.size()); ++i) threads.emplace_back(work);
}

Kernel get_kernel(const KernelRequest& request) {
  return must(machine()->service.get(request.spec, request.schedule));
}

std::string describe(const KernelRequest& request) {
  return lutsmith::describe(request.spec) + ", " +
         (request.schedule ? lutsmith::describe(*request.schedule) : std::string("default schedule"));
}

KernelSpec spec_of(int bits, int group, std::int64_t n, std::int64_t k, std::int64_t m, DataType dtype,
                   TableKind table) {
  return {.format = {.bits = bits, .group = group, .n = n, .k = k, .dtype = dtype, .table = table},
          .m = m,
          .target = machine()->target};
}

std::vector<Schedule> allowed(const KernelSpec& spec, const std::vector<Schedule>& schedules) {
  std::vector<Schedule> result;
  for (const Schedule& schedule : schedules) {
    if (validate(spec, schedule)) result.push_back(schedule);
  }
  return result;
}

}  // namespace lutsmith::gpu_test
