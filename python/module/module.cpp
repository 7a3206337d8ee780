#include "module.h"

#include <string_view>

namespace lutsmith::python {
namespace {

constexpr const char* kErrorDoc =
    "What lutsmith refuses or cannot do; the text says what was given, what is allowed and what to do.\n\n"
    "code: \"invalid_argument\", \"not_found\", \"unsupported\", \"compilation_failed\", \"corrupt_data\",\n"
    "    \"io_error\", \"driver_error\", \"out_of_memory\" or \"kernel_fault\".\n"
    "context: more lines where they help, such as a compiler's log, else \"\".";

PyObject* error_type = nullptr;

bool set_text(PyObject* object, const char* name, const char* value) {
  const Owned text(
      PyUnicode_DecodeUTF8(value, static_cast<Py_ssize_t>(std::string_view(value).size()), "replace"));
  return text && PyObject_SetAttrString(object, name, text.get()) == 0;
}

bool add_error(PyObject* module) {
  const Owned attributes(Py_BuildValue("{s:s,s:s}", "code", "invalid_argument", "context", ""));
  if (!attributes) return false;
  error_type = PyErr_NewExceptionWithDoc("lutsmith.Error", kErrorDoc, PyExc_RuntimeError, attributes.get());
  if (error_type == nullptr) return false;
  Py_INCREF(error_type);  // the module takes one
  return PyModule_AddObject(module, "Error", error_type) == 0;
}

PyMethodDef functions[] = {
    {"table", table, METH_VARARGS, "table(method, bits): the values behind the codes"},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "lutsmith._core",
                          "The C interface of lutsmith; private to the package.",
                          -1,
                          functions,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyObject* raise_last_error(lutsmith_status status) {
  const std::string message = lutsmith_error_message();
  const Owned error(
      PyObject_CallFunction(error_type, "s#", message.data(), static_cast<Py_ssize_t>(message.size())));
  if (!error) return nullptr;
  if (set_text(error.get(), "code", lutsmith_status_name(status)) &&
      set_text(error.get(), "context", lutsmith_error_context())) {
    PyErr_SetObject(error_type, error.get());
  }
  return nullptr;
}

PyObject* none_or_error(lutsmith_status status) {
  if (status != LUTSMITH_OK) return raise_last_error(status);
  Py_INCREF(Py_None);
  return Py_None;
}

}  // namespace lutsmith::python

PyMODINIT_FUNC PyInit__core() {
  using lutsmith::python::Owned;
  Owned module(PyModule_Create(&lutsmith::python::definition));
  if (!module || !lutsmith::python::add_error(module.get()) || !lutsmith::python::add_format(module.get()) ||
      PyModule_AddFunctions(module.get(), lutsmith::python::gpu_functions) != 0 ||
      PyModule_AddStringConstant(module.get(), "version", lutsmith_version()) != 0) {
    return nullptr;
  }
  return module.release();
}
