#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "module.h"

// Kernels and workspaces of this process. Launches look them up here, so that a call from Python is one call
// of C. Tables are read and changed by whoever holds the GIL; what they point to stays until the process
// ends.

namespace lutsmith::python {
namespace {

constexpr const char* kServiceName = "lutsmith.service";

/// Device memory for partial sums. What a graph captures keeps a workspace of its own, since the graph may
/// run while the stream it was captured on does other work.
struct StreamWorkspace {
  int device = 0;
  CUstream_st* stream = nullptr;  ///< nullptr is the default stream
  bool captured = false;
  bool spare = false;  ///< waits for the first capture on a stream that has none
  lutsmith_workspace* workspace = nullptr;
};

std::vector<StreamWorkspace>& workspaces() {
  static auto* const all = new std::vector<StreamWorkspace>;  // used until the very end
  return *all;
}

lutsmith_workspace* workspace_for(int device, CUstream_st* stream, bool captured) {
  StreamWorkspace* spare = nullptr;
  for (StreamWorkspace& one : workspaces()) {
    if (one.device != device || one.captured != captured) continue;
    if (one.spare) {
      spare = &one;
    } else if (one.stream == stream) {
      return one.workspace;
    }
  }
  if (spare == nullptr) return nullptr;
  spare->stream = stream;
  spare->spare = false;
  return spare->workspace;
}

const lutsmith_kernel* kernel_for(const Format& format, int device, std::int64_t bucket, int variant) {
  const auto found = std::ranges::find_if(format.kernels, [&](const DeviceKernel& one) {
    return one.device == device && one.bucket == bucket && one.variant == variant;
  });
  return found == format.kernels.end() ? nullptr : found->kernel;
}

void close_service(PyObject* capsule) {
  auto* const service = static_cast<lutsmith_service*>(PyCapsule_GetPointer(capsule, kServiceName));
  without_gil([service] {
    lutsmith_close(service);
    return 0;
  });
}

lutsmith_service* service_of(PyObject* capsule) {
  return static_cast<lutsmith_service*>(PyCapsule_GetPointer(capsule, kServiceName));
}

PyObject* open_service(PyObject* /*module*/, PyObject* arguments) {
  const char* nvrtc = nullptr;
  if (PyArg_ParseTuple(arguments, "z:open_service", &nvrtc) == 0) return nullptr;
  lutsmith_options options = LUTSMITH_OPTIONS_INIT;
  options.nvrtc = nvrtc;
  lutsmith_service* service = nullptr;
  const lutsmith_status status = without_gil([&] { return lutsmith_open(&options, &service); });
  if (status != LUTSMITH_OK) return raise_last_error(status);
  return PyCapsule_New(service, kServiceName, close_service);
}

PyObject* token_bucket(PyObject* /*module*/, PyObject* tokens) {
  const long long m = PyLong_AsLongLong(tokens);
  if (m == -1 && PyErr_Occurred() != nullptr) return nullptr;
  return PyLong_FromLongLong(lutsmith_token_bucket(m));
}

PyObject* is_capturing(PyObject* /*module*/, PyObject* stream) {
  std::int32_t capturing = 0;
  auto* const handle = pointer<CUstream_st>(PyLong_AsUnsignedLongLong(stream));
  if (PyErr_Occurred() != nullptr) return nullptr;
  const lutsmith_status status = lutsmith_stream_is_capturing(handle, &capturing);
  return status == LUTSMITH_OK ? PyBool_FromLong(capturing) : raise_last_error(status);
}

PyObject* add_workspace(PyObject* /*module*/, PyObject* arguments) {
  PyObject* capsule = nullptr;
  int device = 0;
  unsigned long long stream = 0;
  int captured = 0;
  if (PyArg_ParseTuple(arguments, "OiKp:add_workspace", &capsule, &device, &stream, &captured) == 0)
    return nullptr;
  lutsmith_service* const service = service_of(capsule);
  if (service == nullptr) return nullptr;
  StreamWorkspace added{.device = device,
                        .stream = pointer<CUstream_st>(stream),
                        .captured = captured != 0,
                        .spare = captured != 0,
                        .workspace = nullptr};
  const lutsmith_status status =
      without_gil([&] { return lutsmith_workspace_create(service, &added.workspace); });
  if (status == LUTSMITH_OK) workspaces().push_back(added);
  return none_or_error(status);
}

PyObject* count_workspaces(PyObject* /*module*/, PyObject* arguments) {
  int device = 0;
  int captured = 0;
  if (PyArg_ParseTuple(arguments, "ip:count_workspaces", &device, &captured) == 0) return nullptr;
  return PyLong_FromSsize_t(std::ranges::count_if(workspaces(), [&](const StreamWorkspace& one) {
    return one.device == device && one.captured == (captured != 0);
  }));
}

PyObject* load(PyObject* self, PyObject* arguments) {
  PyObject* capsule = nullptr;
  int device = 0;
  long long m = 0;
  int variant = 0;
  if (PyArg_ParseTuple(arguments, "OiLi:load", &capsule, &device, &m, &variant) == 0) return nullptr;
  lutsmith_service* const service = service_of(capsule);
  if (service == nullptr) return nullptr;
  Format& format = format_of(self);
  lutsmith_spec spec = format.spec;
  spec.m = m;
  set_variant(spec, variant);
  lutsmith_compile_result compiled = LUTSMITH_COMPILE_RESULT_INIT;
  DeviceKernel loaded{
      .device = device, .bucket = lutsmith_token_bucket(m), .variant = variant, .kernel = nullptr};
  const lutsmith_status status = without_gil([&] {
    const lutsmith_status made = lutsmith_compile(service, &spec, &compiled);
    return made == LUTSMITH_OK ? lutsmith_get(service, &spec, &loaded.kernel) : made;
  });
  if (status != LUTSMITH_OK) return raise_last_error(status);
  if (kernel_for(format, device, loaded.bucket, loaded.variant) == nullptr) {
    format.kernels.push_back(loaded);
  } else {  // another thread was faster
    lutsmith_kernel_free(loaded.kernel);
  }
  return PyUnicode_FromString(compiled.origin);
}

enum LaunchArgument {
  at_device,
  at_stream,
  at_x,
  at_weights,
  at_y,
  at_tokens,
  at_x_stride,
  at_y_stride,
  at_variant,
  at_residual,
  at_residual_stride,
  at_bias,
  argument_count
};

PyObject* launch(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count != argument_count) {
    PyErr_Format(PyExc_TypeError, "launch takes %d arguments, %zd given", static_cast<int>(argument_count),
                 count);
    return nullptr;
  }
  std::array<long long, argument_count> given{};
  for (std::size_t i = 0; i < given.size(); ++i) given[i] = PyLong_AsLongLong(arguments[i]);
  if (PyErr_Occurred() != nullptr) return nullptr;
  const auto address = [&](LaunchArgument which) {
    return pointer<void>(static_cast<unsigned long long>(given[which]));
  };
  const Launch asked{.device = static_cast<int>(given[at_device]),
                     .stream = static_cast<CUstream_st*>(address(at_stream)),
                     .x = address(at_x),
                     .weights = address(at_weights),
                     .y = address(at_y),
                     .tokens = given[at_tokens],
                     .x_stride = given[at_x_stride],
                     .y_stride = given[at_y_stride],
                     .variant = static_cast<int>(given[at_variant] & kAllVariants),
                     .residual = address(at_residual),
                     .residual_stride = given[at_residual_stride],
                     .bias = address(at_bias)};
  const Format& format = format_of(self);
  Prepared prepared;
  LaunchOutcome outcome = find_prepared(format, asked, prepared);
  if (outcome == done && !enqueue(format, prepared, asked)) outcome = failed;
  return outcome == failed ? nullptr : PyLong_FromLong(outcome);
}

// A method that takes an array stands in a table of those that take a tuple; its flag says which it is.
PyCFunction with_array(PyObject* (*method)(PyObject*, PyObject* const*, Py_ssize_t)) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(method));
}

}  // namespace

LaunchOutcome find_prepared(const Format& format, const Launch& launch, Prepared& found) {
  found.kernel = kernel_for(format, launch.device, lutsmith_token_bucket(launch.tokens), launch.variant);
  if (found.kernel == nullptr) return kernel_missing;
  std::int32_t capturing = 0;
  const lutsmith_status status = lutsmith_stream_is_capturing(launch.stream, &capturing);
  if (status != LUTSMITH_OK) {
    raise_last_error(status);
    return failed;
  }
  found.workspace = workspace_for(launch.device, launch.stream, capturing != 0);
  return found.workspace == nullptr ? workspace_missing : done;
}

bool enqueue(const Format& format, const Prepared& prepared, const Launch& launch) {
  lutsmith_arguments launched = LUTSMITH_ARGUMENTS_INIT;
  launched.weights_format = &format.spec;
  launched.weights = launch.weights;
  launched.weights_bytes = format.packed_bytes;
  launched.activations = launch.x;
  launched.output = launch.y;
  launched.table = format.table_data();
  launched.table_length = format.table.size();
  launched.m = launch.tokens;
  launched.activation_stride = launch.x_stride;
  launched.output_stride = launch.y_stride;
  launched.residual = launch.residual;
  launched.residual_stride = launch.residual_stride;
  launched.bias = launch.bias;
  launched.segments = format.segments.data();
  launched.segment_count = format.segments.size();
  const lutsmith_status status = without_gil(
      [&] { return lutsmith_launch(prepared.kernel, &launched, prepared.workspace, launch.stream); });
  if (status != LUTSMITH_OK) raise_last_error(status);
  return status == LUTSMITH_OK;
}

PyMethodDef gpu_functions[] = {
    {"open_service", open_service, METH_VARARGS, "open_service(nvrtc) -> service; nvrtc: a path, or None"},
    {"token_bucket", token_bucket, METH_O, "token_bucket(m): the most tokens that have the same kernel as m"},
    {"is_capturing", is_capturing, METH_O, "is_capturing(stream): whether a graph is being captured on it"},
    {"add_workspace", add_workspace, METH_VARARGS,
     "add_workspace(service, device, stream, captured)\n\n"
     "On the current device, which `device` is. captured: for the next stream that captures a graph and has "
     "none."},
    {"count_workspaces", count_workspaces, METH_VARARGS, "count_workspaces(device, captured)"},
    {"exchange_tensors", exchange_tensors, METH_VARARGS,
     "exchange_tensors(interface, device_type) -> whether it is of a version that is known\n\n"
     "Has Format.multiply read tensors by torch.Tensor.__dlpack_c_exchange_api__, a capsule, where they are "
     "on a "
     "device of\nthis type of DLPack."},
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef format_methods[] = {
    {"quantize", quantize, METH_VARARGS,
     "quantize(weights, type, stride, table, packed, threads, scales, importance) -> relative error\n\n"
     "weights, packed, importance: addresses, of the last 0 for none. type: \"f32\", \"f16\", \"bf16\". "
     "table: "
     "bytes, float32. scales: \"absmax\", \"mse\", \"rms\"."},
    {"learn_table", learn_table, METH_VARARGS,
     "learn_table(weights, type, stride, threads, importance) -> values"},
    {"dequantize", dequantize, METH_VARARGS,
     "dequantize(packed, first_row, rows, weights, type, stride, threads)"},
    {"pack", pack, METH_VARARGS,
     "pack(codes, scales, offsets, tables, packed): addresses; offsets, tables: 0 where there are none"},
    {"unpack", unpack, METH_VARARGS,
     "unpack(packed, codes, scales, offsets, tables): addresses; offsets, tables: 0 where there are none"},
    {"load", load, METH_VARARGS,
     "load(service, device, m, variant) -> origin: \"memory\", \"disk\", \"remote\" or "
     "\"compiled\"\n\n"
     "Gets the kernel for m tokens on the current device, which `device` is."},
    {"launch", with_array(launch), METH_FASTCALL,
     "launch(device, stream, x, weights, y, m, x_stride, y_stride, variant, residual, residual_stride, "
     "bias)\n"
     "-> 0: enqueued; else nothing was done, and 1: there is no such kernel for m tokens, 2: no workspace "
     "for "
     "the stream.\nAddresses, and strides in elements; 0 for none. variant: a sum of 1: batch-invariant, 2: "
     "a "
     "residual, 4: a bias,\n8: gated by silu, 16: by gelu_tanh."},
    {"multiply", with_array(multiply), METH_FASTCALL,
     "multiply(x, weights, empty, dtype, variant, bias=None, residual=None) -> y, or None where there is "
     "more "
     "to do than a launch\n\n"
     "y = empty(shape, strides, dtype), on torch's current stream. More to do: rows to copy, a kernel or a "
     "workspace to make,\nsomething to refuse. Then nothing was done."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace lutsmith::python
