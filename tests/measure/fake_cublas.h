#pragma once

#include <cstddef>
#include <functional>

namespace lutsmith {

/// One product as cuBLAS was asked for it: column-major C [rows, columns] = A^T [depth, rows] * B [depth,
/// columns].
struct FakeProduct {
  int rows = 0;
  int columns = 0;
  int depth = 0;
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
  int type = 0;
  int compute_type = 0;
};

/// What the stand-in for cuBLAS was asked, and how it is to answer.
struct FakeCublasState {
  int create_status = 0;
  int version_status = 0;
  int multiply_status = 0;
  std::function<void(const FakeProduct&)> multiply;

  int living = 0;  ///< handles created and not destroyed
  bool has_workspace = false;
  std::size_t workspace_bytes = 0;
};

}  // namespace lutsmith

extern "C" lutsmith::FakeCublasState* fake_cublas_state();
