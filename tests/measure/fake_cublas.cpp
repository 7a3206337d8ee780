#include "fake_cublas.h"

#define FAKE extern "C" __attribute__((visibility("default")))

namespace {

lutsmith::FakeCublasState state;
char anything;  // handles point here

}  // namespace

FAKE lutsmith::FakeCublasState* fake_cublas_state() { return &state; }

// NOLINTBEGIN(readability-identifier-naming): cuBLAS's own names

FAKE int cublasCreate_v2(void** handle) {
  if (state.create_status != 0) return state.create_status;
  ++state.living;
  *handle = &anything;
  return 0;
}
FAKE int cublasDestroy_v2(void*) {
  --state.living;
  return 0;
}
FAKE int cublasGetVersion_v2(void*, int* version) {
  *version = 130100;
  return state.version_status;
}
// As the real one does, it goes back to a workspace of its own.
FAKE int cublasSetStream_v2(void*, void*) {
  state.has_workspace = false;
  return 0;
}
FAKE int cublasSetWorkspace_v2(void*, void*, std::size_t bytes) {
  state.has_workspace = true;
  state.workspace_bytes = bytes;
  return 0;
}
FAKE int cublasGemmEx(void*, int, int, int rows, int columns, int depth, const void*, const void* a, int type,
                      int, const void* b, int, int, const void*, void* c, int, int, int compute_type, int) {
  if (state.multiply_status != 0) return state.multiply_status;
  if (state.multiply) {
    state.multiply({.rows = rows,
                    .columns = columns,
                    .depth = depth,
                    .a = a,
                    .b = b,
                    .c = c,
                    .type = type,
                    .compute_type = compute_type});
  }
  return 0;
}

// NOLINTEND(readability-identifier-naming)
