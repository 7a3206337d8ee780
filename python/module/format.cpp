#include <cstring>
#include <new>

#include "module.h"
#include "templates/abi/packed_layout.h"

namespace lutsmith::python {
namespace {

struct FormatObject {
  PyObject_HEAD  //
      Format* format;
};

constexpr const char* kDoc =
    "Format(bits, group, n, k, dtype, table_kind, table, offsets, segments, segment_rows)\n\n"
    "What packed bytes mean. table: bytes, 16-bit floats of dtype. segments: a tuple, the rows of each. "
    "Raises Error\nfor what cannot be packed.";

/// Whether it could be read; else an error was raised.
bool read_segments(PyObject* tuple, std::vector<std::int64_t>& segments) {
  const Py_ssize_t count = PyTuple_Size(tuple);
  for (Py_ssize_t i = 0; i < count; ++i) {
    segments.push_back(PyLong_AsLongLong(PyTuple_GetItem(tuple, i)));
  }
  return PyErr_Occurred() == nullptr;
}

PyObject* make(PyTypeObject* type, PyObject* arguments, PyObject* /*names*/) {
  int bits = 0;
  int group = 0;
  long long n = 0;
  long long k = 0;
  const char* dtype = nullptr;
  const char* table_kind = nullptr;
  const char* table = nullptr;
  Py_ssize_t table_bytes = 0;
  int offsets = 0;
  PyObject* segments = nullptr;
  long long segment_rows = 0;
  if (PyArg_ParseTuple(arguments, "iiLLssy#pO!L:Format", &bits, &group, &n, &k, &dtype, &table_kind, &table,
                       &table_bytes, &offsets, &PyTuple_Type, &segments, &segment_rows) == 0) {
    return nullptr;
  }
  Owned object(PyType_GenericNew(type, nullptr, nullptr));
  if (!object) return nullptr;
  auto* const format = new (std::nothrow) Format{dtype, table_kind, {}, {}, LUTSMITH_SPEC_INIT, 0, {}};
  if (format == nullptr) return PyErr_NoMemory();
  reinterpret_cast<FormatObject*>(object.get())->format = format;
  if (!read_segments(segments, format->segments)) return nullptr;
  format->table.resize(static_cast<std::size_t>(table_bytes) / sizeof(std::uint16_t));
  std::memcpy(format->table.data(), table, format->table.size() * sizeof(std::uint16_t));
  format->spec.bits = bits;
  format->spec.group = group;
  format->spec.n = n;
  format->spec.k = k;
  format->spec.dtype = format->dtype.c_str();
  format->spec.table = format->table_kind.c_str();
  format->spec.offsets = offsets;
  format->spec.segment_rows = segment_rows;
  const lutsmith_status status = lutsmith_packed_bytes(&format->spec, &format->packed_bytes);
  return status == LUTSMITH_OK ? object.release() : raise_last_error(status);
}

void destroy(PyObject* object) {
  PyTypeObject* const type = Py_TYPE(object);
  Format* const format = reinterpret_cast<FormatObject*>(object)->format;
  if (format != nullptr) {
    for (const DeviceKernel& loaded : format->kernels) lutsmith_kernel_free(loaded.kernel);
  }
  delete format;
  const auto release = reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free));
  release(object);
  Py_DECREF(reinterpret_cast<PyObject*>(type));
}

bool has_row_tables(const lutsmith_spec& spec) { return std::strcmp(spec.table, "row") == 0; }

PyObject* packed_bytes(PyObject* object, void* /*unused*/) {
  return PyLong_FromSize_t(format_of(object).packed_bytes);
}

PyObject* panel_bytes(PyObject* object, void* /*unused*/) {
  const lutsmith_spec& spec = format_of(object).spec;
  const PackedLayout layout{spec.bits, spec.group, spec.n, spec.k, spec.offsets != 0, has_row_tables(spec)};
  return PyLong_FromLongLong(layout.plane_offset());
}

PyObject* table_bytes(PyObject* object, void* /*unused*/) {
  const lutsmith_spec& spec = format_of(object).spec;
  const PackedLayout layout{spec.bits, spec.group, spec.n, spec.k, spec.offsets != 0, has_row_tables(spec)};
  return PyLong_FromLongLong(layout.packed_bytes() - layout.tables_offset());
}

PyGetSetDef attributes[] = {{"packed_bytes", packed_bytes, nullptr, "bytes of such a matrix", nullptr},
                            {"panel_bytes", panel_bytes, nullptr,
                             "bytes of them before the plane of scales, which follows; both are in panels of "
                             "32 rows, one behind the other",
                             nullptr},
                            {"table_bytes", table_bytes, nullptr,
                             "bytes of them behind that plane, where rows have tables: those of 32 rows, one "
                             "panel behind the other",
                             nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};

// Slots hold functions as void*, which C++ has no better cast for.
PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>(kDoc)},
                       {Py_tp_new, reinterpret_cast<void*>(make)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
                       {Py_tp_getset, attributes},
                       {Py_tp_methods, format_methods},
                       {0, nullptr}};

PyType_Spec type_spec = {"lutsmith._core.Format", sizeof(FormatObject), 0, Py_TPFLAGS_DEFAULT, slots};

}  // namespace

bool add_format(PyObject* module) {
  Owned type(PyType_FromSpec(&type_spec));
  if (!type || PyModule_AddObject(module, "Format", type.get()) != 0) return false;
  type.release();
  return true;
}

Format& format_of(PyObject* object) { return *reinterpret_cast<FormatObject*>(object)->format; }

}  // namespace lutsmith::python
