#include "lutsmith.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "core/result.h"
#include "lutsmith/service.h"
#include "runtime/driver.h"
#include "service/c_interface.h"
#include "service/service_environment.h"

// The handles of lutsmith.h: each holds one object of the C++ interface.
struct lutsmith_service {
  lutsmith::Service service;
};
struct lutsmith_kernel {
  lutsmith::Kernel kernel;
};
struct lutsmith_workspace {
  lutsmith::Workspace workspace;
};

namespace lutsmith::c_interface {
namespace {

struct LastError {
  std::string message;
  std::string context;
};
thread_local LastError last_error;

lutsmith_status status_of(ErrorCode code) {
  // In the order of ErrorCode, after LUTSMITH_OK.
  static_assert(LUTSMITH_INVALID_ARGUMENT == 1 + static_cast<int>(ErrorCode::invalid_argument));
  static_assert(LUTSMITH_KERNEL_FAULT == 1 + static_cast<int>(ErrorCode::kernel_fault));
  return static_cast<lutsmith_status>(1 + static_cast<int>(code));
}

struct Switch {
  std::string_view name;
  std::int64_t value;
  bool* into;
};

Result<KernelSpec> spec_of(const lutsmith_spec* pointer) {
  Result<lutsmith_spec> given = known_part(pointer, "spec", lutsmith_spec LUTSMITH_SPEC_INIT);
  if (!given) return failure(given);
  Result<WeightFormat> format = format_of(*given);
  if (!format) return failure(format);
  KernelSpec spec{.format = *format, .m = given->m};
  if (given->target != nullptr) {
    Result<Target> target = Target::parse(given->target);
    if (!target) return failure(target);
    spec.target = *target;
  }
  for (const auto& [name, value, into] :
       {Switch{"batch_invariant", given->batch_invariant, &spec.batch_invariant},
        Switch{"residual", given->residual, &spec.residual}, Switch{"bias", given->bias, &spec.bias}}) {
    if (value != 0 && value != 1) {
      return refuse(fmt::format("{}: {} is not allowed; allowed: 0, 1", name, value));
    }
    *into = value == 1;
  }
  if (given->gated != nullptr) {
    Result<Gate> gated = parse_gate(given->gated);
    if (!gated) return failure(gated);
    spec.gated = *gated;
  }
  if (!std::in_range<int>(given->segment_rows)) {
    return refuse(fmt::format("segment_rows: {} is not allowed; allowed: 0, {}", given->segment_rows,
                              fmt::join(kSegmentRows, ", ")));
  }
  spec.segment_rows = static_cast<int>(given->segment_rows);
  if (given->output != nullptr) {
    Result<OutputType> output = parse_output_type(given->output);
    if (!output) return failure(output);
    spec.output = *output;
  }
  return spec;
}

Result<ServiceOptions> options_of(const lutsmith_options* pointer) {
  ServiceOptions options;
  if (pointer == nullptr) return options;
  Result<lutsmith_options> given = known_part(pointer, "options", lutsmith_options LUTSMITH_OPTIONS_INIT);
  if (!given) return failure(given);
  if (given->cache_directory != nullptr) options.cache_directory = given->cache_directory;
  if (given->nvrtc != nullptr) options.nvrtc = given->nvrtc;
  if (given->compile != nullptr) {
    Result<CompilePolicy> policy = parse_compile_policy("compile", given->compile);
    if (!policy) return failure(policy);
    options.compile = *policy;
  }
  options.memory_only = given->memory_only != 0;
  options.compile_jobs = given->compile_jobs;
  return options;
}

/// A string and its end, cut to what there is room for.
template <std::size_t kSize>
void copy_text(std::string_view text, char (&into)[kSize]) {
  const std::size_t length = std::min(text.size(), kSize - 1);
  std::copy_n(text.begin(), length, into);
  into[length] = '\0';
}

Result<void> write_result(const CompileResult& compiled, lutsmith_compile_result* result) {
  if (result == nullptr) return {};
  Result<lutsmith_compile_result> known =
      known_part(result, "result", lutsmith_compile_result LUTSMITH_COMPILE_RESULT_INIT);
  if (!known) return failure(known);
  const Artifact& artifact = *compiled.artifact;
  copy_text(artifact.key, known->key);
  copy_text(to_string(compiled.origin), known->origin);
  known->registers = artifact.registers;
  known->spill_bytes = artifact.spill_bytes;
  known->cubin_bytes = artifact.cubin.size();
  known->milliseconds = compiled.milliseconds;
  std::memcpy(result, &*known, std::min(known->struct_size, sizeof(*known)));
  return {};
}

/// Gives the caller a handle that owns `object`.
template <class Handle, class T>
Result<void> hand_out(Result<T> object, Handle** handle) {
  if (!object) return failure(object);
  *handle = new Handle{*std::move(object)};
  return {};
}

Result<MatmulArguments> arguments_of(const lutsmith_arguments* pointer) {
  Result<lutsmith_arguments> given =
      known_part(pointer, "arguments", lutsmith_arguments LUTSMITH_ARGUMENTS_INIT);
  if (!given) return failure(given);
  if (given->weights_format == nullptr) {
    return refuse("weights_format: NULL is not allowed; give the spec that the weights were packed for");
  }
  Result<WeightFormat> format = format_of(given->weights_format, "weights_format");
  if (!format) return failure(format);
  return MatmulArguments{
      .weights = {.format = *format, .data = given->weights, .bytes = given->weights_bytes},
      .activations = given->activations,
      .output = given->output,
      .table = {given->table, given->table_length},
      .m = given->m,
      .activation_stride = given->activation_stride,
      .output_stride = given->output_stride,
      .partitions = given->partitions,
      .residual = given->residual,
      .residual_stride = given->residual_stride,
      .bias = given->bias,
      .segments = {given->segments, given->segment_count}};
}

/// What `name` is to be written to, and the service that is asked, are there.
template <class T>
Result<void> check_call(const lutsmith_service* service, const T* result, const char* name) {
  if (Result<void> there = check_handle(service, "service"); !there) return there;
  return check_handle(result, name);
}

}  // namespace

lutsmith_status fail(Error error) {
  const lutsmith_status status = status_of(error.code);
  last_error = {.message = std::move(error.message), .context = std::move(error.context)};
  return status;
}

lutsmith_status fail(const std::exception& thrown) noexcept {
  last_error.context.clear();
  try {
    last_error.message = thrown.what();
  } catch (...) {
    last_error.message.clear();
  }
  return LUTSMITH_OUT_OF_MEMORY;
}

Result<WeightFormat> format_of(const lutsmith_spec& given) {
  WeightFormat format{
      .bits = given.bits, .group = given.group, .n = given.n, .k = given.k, .offsets = given.offsets != 0};
  if (given.dtype != nullptr) {
    Result<DataType> dtype = parse_data_type(given.dtype);
    if (!dtype) return failure(dtype);
    format.dtype = *dtype;
  }
  if (given.table != nullptr) {
    Result<TableKind> table = parse_table_kind(given.table);
    if (!table) return failure(table);
    format.table = *table;
  }
  return format;
}

Result<WeightFormat> format_of(const lutsmith_spec* pointer, const char* name) {
  Result<lutsmith_spec> given = known_part(pointer, name, lutsmith_spec LUTSMITH_SPEC_INIT);
  if (!given) return failure(given);
  return format_of(*given);
}

}  // namespace lutsmith::c_interface

using lutsmith::Result;
namespace c_interface = lutsmith::c_interface;

const char* lutsmith_version() { return LUTSMITH_VERSION_STRING; }

const char* lutsmith_status_name(lutsmith_status status) {
  if (status == LUTSMITH_OK) return "ok";
  return lutsmith::to_string(static_cast<lutsmith::ErrorCode>(status - 1)).data();  // a literal
}

const char* lutsmith_error_message() { return c_interface::last_error.message.c_str(); }
const char* lutsmith_error_context() { return c_interface::last_error.context.c_str(); }

lutsmith_status lutsmith_open(const lutsmith_options* options, lutsmith_service** service) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_handle(service, "service"); !there) return there;
    Result<lutsmith::ServiceOptions> chosen = c_interface::options_of(options);
    if (!chosen) return lutsmith::failure(chosen);
    return c_interface::hand_out(lutsmith::Service::open(*std::move(chosen)), service);
  });
}

void lutsmith_close(lutsmith_service* service) { delete service; }

lutsmith_status lutsmith_packed_bytes(const lutsmith_spec* spec, size_t* bytes) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_handle(bytes, "bytes"); !there) return there;
    Result<lutsmith::KernelSpec> asked = c_interface::spec_of(spec);
    if (!asked) return lutsmith::failure(asked);
    Result<std::size_t> size = lutsmith::packed_bytes(asked->format);
    if (!size) return lutsmith::failure(size);
    *bytes = *size;
    return {};
  });
}

lutsmith_status lutsmith_compile(lutsmith_service* service, const lutsmith_spec* spec,
                                 lutsmith_compile_result* result) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_handle(service, "service"); !there) return there;
    Result<lutsmith::KernelSpec> asked = c_interface::spec_of(spec);
    if (!asked) return lutsmith::failure(asked);
    Result<lutsmith::CompileResult> compiled = service->service.compile(*asked);
    if (!compiled) return lutsmith::failure(compiled);
    return c_interface::write_result(*compiled, result);
  });
}

lutsmith_status lutsmith_get(lutsmith_service* service, const lutsmith_spec* spec, lutsmith_kernel** kernel) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_call(service, kernel, "kernel"); !there) return there;
    Result<lutsmith::KernelSpec> asked = c_interface::spec_of(spec);
    if (!asked) return lutsmith::failure(asked);
    return c_interface::hand_out(service->service.get(*asked), kernel);
  });
}

int64_t lutsmith_token_bucket(int64_t m) { return lutsmith::token_bucket(m); }

void lutsmith_kernel_free(lutsmith_kernel* kernel) { delete kernel; }

lutsmith_status lutsmith_workspace_bytes(lutsmith_service* service, size_t* bytes) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_call(service, bytes, "bytes"); !there) return there;
    Result<std::size_t> size = service->service.workspace_bytes();
    if (!size) return lutsmith::failure(size);
    *bytes = *size;
    return {};
  });
}

lutsmith_status lutsmith_workspace_create(lutsmith_service* service, lutsmith_workspace** workspace) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_call(service, workspace, "workspace"); !there) return there;
    return c_interface::hand_out(service->service.create_workspace(), workspace);
  });
}

lutsmith_status lutsmith_workspace_over(lutsmith_service* service, void* memory, size_t bytes,
                                        lutsmith_workspace** workspace) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_call(service, workspace, "workspace"); !there) return there;
    return c_interface::hand_out(service->service.workspace_over(memory, bytes), workspace);
  });
}

void lutsmith_workspace_free(lutsmith_workspace* workspace) { delete workspace; }

lutsmith_status lutsmith_launch(const lutsmith_kernel* kernel, const lutsmith_arguments* arguments,
                                lutsmith_workspace* workspace, CUstream_st* stream) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_handle(kernel, "kernel"); !there) return there;
    if (Result<void> there = c_interface::check_handle(workspace, "workspace"); !there) return there;
    Result<lutsmith::MatmulArguments> given = c_interface::arguments_of(arguments);
    if (!given) return lutsmith::failure(given);
    return kernel->kernel.launch(*given, workspace->workspace, stream);
  });
}

lutsmith_status lutsmith_stream_is_capturing(CUstream_st* stream, int32_t* capturing) {
  return c_interface::status_after([&]() -> Result<void> {
    if (Result<void> there = c_interface::check_handle(capturing, "capturing"); !there) return there;
    Result<const lutsmith::cuda::Driver*> driver = lutsmith::cuda::Driver::open();
    if (!driver) return lutsmith::failure(driver);
    auto status = lutsmith::cuda::CaptureStatus::none;
    Result<void> asked =
        (*driver)->check((*driver)->api().stream_is_capturing(stream, &status), "cuStreamIsCapturing");
    if (asked) *capturing = status == lutsmith::cuda::CaptureStatus::none ? 0 : 1;
    return asked;
  });
}
