/* A program in C99 that uses lutsmith.h as bindings do, on the stand-in driver, which has an H100 that
 * computes nothing. Exit code 77: there is no NVRTC to compile with. */

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "lutsmith.h"

static int failures = 0;

static void check(int good, const char* what, int line) {
  if (good) return;
  ++failures;
  fprintf(stderr, "line %d: %s\n  last error: %s\n", line, what, lutsmith_error_message());
}
#define CHECK(condition) check((condition) ? 1 : 0, #condition, __LINE__)

/* The call is refused with `status`, and its error says `words`. */
static void refused(lutsmith_status got, lutsmith_status status, const char* words, int line) {
  check(got == status, lutsmith_status_name(got), line);
  check(strstr(lutsmith_error_message(), words) != NULL, words, line);
}
#define REFUSED(call, status, words) refused((call), (status), (words), __LINE__)

static lutsmith_spec small_spec(void) {
  lutsmith_spec spec = LUTSMITH_SPEC_INIT;
  spec.bits = 4;
  spec.group = 64;
  spec.n = 64;
  spec.k = 128;
  spec.m = 3;
  return spec;
}

static void test_words(void) {
  CHECK(strcmp(lutsmith_version(), LUTSMITH_VERSION_STRING) == 0);
  CHECK(strcmp(lutsmith_status_name(LUTSMITH_OK), "ok") == 0);
  CHECK(strcmp(lutsmith_status_name(LUTSMITH_NOT_FOUND), "not_found") == 0);
  CHECK(strcmp(lutsmith_status_name(LUTSMITH_KERNEL_FAULT), "kernel_fault") == 0);
  CHECK(strcmp(lutsmith_status_name((lutsmith_status)99), "unknown") == 0);
}

static void test_opening(void) {
  lutsmith_service* service = NULL;
  lutsmith_options options = LUTSMITH_OPTIONS_INIT;
  REFUSED(lutsmith_open(NULL, NULL), LUTSMITH_INVALID_ARGUMENT, "service: NULL");
  options.compile = "nevr";
  REFUSED(lutsmith_open(&options, &service), LUTSMITH_INVALID_ARGUMENT, "'nevr' is not known");
  options.compile = NULL;
  options.nvrtc = "/nonexistent/libnvrtc.so";
  REFUSED(lutsmith_open(&options, &service), LUTSMITH_NOT_FOUND, "/nonexistent/libnvrtc.so");
  CHECK(strlen(lutsmith_error_context()) > 0);
  CHECK(service == NULL);
  lutsmith_close(NULL);
  lutsmith_kernel_free(NULL);
  lutsmith_workspace_free(NULL);
}

static void test_specs(void) {
  size_t bytes = 0;
  size_t channel_bytes = 0;
  lutsmith_spec spec = small_spec();
  CHECK(lutsmith_packed_bytes(&spec, &bytes) == LUTSMITH_OK);
  CHECK(bytes >= 64 * 128 / 2);
  spec.group = 0;
  CHECK(lutsmith_packed_bytes(&spec, &channel_bytes) == LUTSMITH_OK);
  CHECK(channel_bytes < bytes);
  spec.group = 63;
  REFUSED(lutsmith_packed_bytes(&spec, &bytes), LUTSMITH_INVALID_ARGUMENT, "group: 63");
  spec = small_spec();
  spec.dtype = "f32";
  REFUSED(lutsmith_packed_bytes(&spec, &bytes), LUTSMITH_INVALID_ARGUMENT, "f32");
  spec = small_spec();
  spec.table = "vector";
  REFUSED(lutsmith_packed_bytes(&spec, &bytes), LUTSMITH_INVALID_ARGUMENT, "vector");
  REFUSED(lutsmith_packed_bytes(NULL, &bytes), LUTSMITH_INVALID_ARGUMENT, "spec: NULL");
}

/* A structure of another release. */
static void test_sizes(void) {
  struct {
    lutsmith_spec spec;
    int64_t later;
  } longer = {LUTSMITH_SPEC_INIT, 0};
  size_t bytes = 0;
  longer.spec = small_spec();
  longer.spec.struct_size = sizeof(longer);
  CHECK(lutsmith_packed_bytes(&longer.spec, &bytes) == LUTSMITH_OK);
  longer.later = 1;
  REFUSED(lutsmith_packed_bytes(&longer.spec, &bytes), LUTSMITH_INVALID_ARGUMENT, "newer than this release");
  longer.spec.struct_size = 0;
  REFUSED(lutsmith_packed_bytes(&longer.spec, &bytes), LUTSMITH_INVALID_ARGUMENT, "struct_size");
  longer.spec.struct_size = offsetof(lutsmith_spec, dtype); /* an older one, without names */
  longer.spec.dtype = "not read";
  CHECK(lutsmith_packed_bytes(&longer.spec, &bytes) == LUTSMITH_OK);
}

/* A matrix of 64 x 128 and what becomes of it. */
typedef struct Matrix {
  lutsmith_spec format;
  float weights[64 * 128];
  float table[16];
  uint16_t stored_table[16];
  unsigned char packed[8192];
  size_t packed_bytes;
} Matrix;

static Matrix small_matrix(void) {
  Matrix result;
  int i;
  memset(&result, 0, sizeof(result));
  result.format = small_spec();
  for (i = 0; i < 64 * 128; ++i) result.weights[i] = (float)((i * 37 % 101) - 50) / 64;
  CHECK(lutsmith_table("nf", 4, result.table, 16) == LUTSMITH_OK);
  CHECK(lutsmith_packed_bytes(&result.format, &result.packed_bytes) == LUTSMITH_OK);
  CHECK(result.packed_bytes <= sizeof(result.packed));
  return result;
}

static lutsmith_quantization quantization_of(Matrix* matrix) {
  lutsmith_quantization quantization = LUTSMITH_QUANTIZATION_INIT;
  quantization.format = &matrix->format;
  quantization.weights = matrix->weights;
  quantization.table = matrix->table;
  quantization.table_length = 16;
  quantization.packed = matrix->packed;
  quantization.packed_bytes = matrix->packed_bytes;
  quantization.stored_table = matrix->stored_table;
  return quantization;
}

static lutsmith_dequantization dequantization_of(const Matrix* matrix, float* weights) {
  lutsmith_dequantization dequantization = LUTSMITH_DEQUANTIZATION_INIT;
  dequantization.format = &matrix->format;
  dequantization.packed = matrix->packed;
  dequantization.packed_bytes = matrix->packed_bytes;
  dequantization.table = matrix->stored_table;
  dequantization.table_length = 16;
  dequantization.weights = weights;
  return dequantization;
}

/* ||weights - given|| / ||given|| */
static double error_of(const float* weights, const float* given, int count) {
  double error = 0;
  double energy = 0;
  int i;
  for (i = 0; i < count; ++i) {
    const double difference = (double)weights[i] - (double)given[i];
    error += difference * difference;
    energy += (double)given[i] * (double)given[i];
  }
  return error / energy; /* squared: C99 without libm */
}

static void test_tables(void) {
  float values[16] = {0};
  CHECK(lutsmith_table("nf", 4, values, 16) == LUTSMITH_OK);
  CHECK(values[0] == -1 && values[7] == 0 && values[15] == 1);
  CHECK(lutsmith_table("int", 2, values, 4) == LUTSMITH_OK);
  CHECK(values[0] == -2 && values[3] == 1);
  REFUSED(lutsmith_table("nf", 4, values, 8), LUTSMITH_INVALID_ARGUMENT, "16 values");
  REFUSED(lutsmith_table("nff", 4, values, 16), LUTSMITH_INVALID_ARGUMENT, "'nff' is not known");
  REFUSED(lutsmith_table(NULL, 4, values, 16), LUTSMITH_INVALID_ARGUMENT, "method: NULL");
  REFUSED(lutsmith_table("nf", 4, NULL, 16), LUTSMITH_INVALID_ARGUMENT, "values: NULL");
}

/* Of rows with a table of zeros nothing is left, of the others all. */
static void test_dequantizing_segments(const Matrix* matrix, const float* whole) {
  static float back[64 * 128];
  static const int64_t segments[2] = {48, 16};
  uint16_t tables[32] = {0};
  Matrix with_tables = *matrix;
  lutsmith_dequantization dequantization = dequantization_of(&with_tables, back);
  memcpy(tables, matrix->stored_table, sizeof matrix->stored_table);
  dequantization.table = tables;
  dequantization.table_length = 32;
  dequantization.segments = segments;
  dequantization.segment_count = 2;
  CHECK(lutsmith_dequantize(&dequantization) == LUTSMITH_OK);
  CHECK(error_of(back, whole, 48 * 128) == 0);
  CHECK(back[48 * 128] == 0 && back[64 * 128 - 1] == 0 && whole[48 * 128] != 0);
  dequantization.segment_count = 1;
  REFUSED(lutsmith_dequantize(&dequantization), LUTSMITH_INVALID_ARGUMENT, "segments: 48 rows in all");
  dequantization.segments = NULL;
  REFUSED(lutsmith_dequantize(&dequantization), LUTSMITH_INVALID_ARGUMENT, "segments: a null pointer to 1");
}

static void test_quantizing(void) {
  static float back[64 * 128];
  static float lower_half[32 * 130];
  Matrix matrix = small_matrix();
  lutsmith_quantization quantization = quantization_of(&matrix);
  lutsmith_dequantization dequantization = dequantization_of(&matrix, back);
  double weight_error = 0;
  double squared;
  CHECK(lutsmith_quantize(&quantization, &weight_error) == LUTSMITH_OK);
  CHECK(weight_error > 0.01 && weight_error < 0.2);
  CHECK(matrix.stored_table[15] == 0x3c00); /* 1 in f16 */
  CHECK(lutsmith_dequantize(&dequantization) == LUTSMITH_OK);
  squared = error_of(back, matrix.weights, 64 * 128);
  CHECK(squared > 0.999 * weight_error * weight_error && squared < 1.001 * weight_error * weight_error);

  /* The lower half alone, into rows that are longer. */
  dequantization.first_row = 32;
  dequantization.weights = lower_half;
  dequantization.weights_stride = 130;
  CHECK(lutsmith_dequantize(&dequantization) == LUTSMITH_OK);
  CHECK(error_of(lower_half, back + 32 * 128, 128) == 0);
  CHECK(error_of(lower_half + 31 * 130, back + 63 * 128, 128) == 0);
  CHECK(lower_half[128] == 0 && lower_half[129] == 0);

  dequantization.first_row = 16;
  REFUSED(lutsmith_dequantize(&dequantization), LUTSMITH_INVALID_ARGUMENT, "multiple of 32");
  dequantization.first_row = 32;
  dequantization.rows = 33;
  REFUSED(lutsmith_dequantize(&dequantization), LUTSMITH_INVALID_ARGUMENT, "33 from row 32");
  dequantization = dequantization_of(&matrix, back);
  dequantization.first_row = INT64_MIN;
  REFUSED(lutsmith_dequantize(&dequantization), LUTSMITH_INVALID_ARGUMENT,
          "from row -9223372036854775808 on");
  dequantization = dequantization_of(&matrix, back);
  dequantization.packed_bytes -= 1;
  REFUSED(lutsmith_dequantize(&dequantization), LUTSMITH_INVALID_ARGUMENT, "packed:");
  dequantization = dequantization_of(&matrix, back);
  dequantization.table_length = 15;
  REFUSED(lutsmith_dequantize(&dequantization), LUTSMITH_INVALID_ARGUMENT, "table: 15");
  test_dequantizing_segments(&matrix, back);
  REFUSED(lutsmith_dequantize(NULL), LUTSMITH_INVALID_ARGUMENT, "dequantization: NULL");
}

static void test_learning(void) {
  Matrix matrix = small_matrix();
  lutsmith_quantization quantization = quantization_of(&matrix);
  float importance[128] = {0};
  double absmax = 0;
  double mse = 0;
  double learned = 0;
  double one_column = 0;
  CHECK(lutsmith_quantize(&quantization, &absmax) == LUTSMITH_OK);
  quantization.scales = "mse";
  CHECK(lutsmith_quantize(&quantization, &mse) == LUTSMITH_OK);
  CHECK(lutsmith_learn_table(&quantization, matrix.table, 16) == LUTSMITH_OK);
  CHECK(lutsmith_quantize(&quantization, &learned) == LUTSMITH_OK);
  CHECK(mse < absmax && learned < mse);
  importance[5] = 1; /* one weight of each group counts, so the others lose */
  quantization.importance = importance;
  CHECK(lutsmith_quantize(&quantization, &one_column) == LUTSMITH_OK);
  CHECK(one_column > learned);
  REFUSED(lutsmith_learn_table(&quantization, matrix.table, 15), LUTSMITH_INVALID_ARGUMENT, "16 values");
  REFUSED(lutsmith_learn_table(&quantization, NULL, 16), LUTSMITH_INVALID_ARGUMENT, "values: NULL");
  REFUSED(lutsmith_learn_table(NULL, matrix.table, 16), LUTSMITH_INVALID_ARGUMENT, "quantization: NULL");
  importance[5] = -1;
  REFUSED(lutsmith_quantize(&quantization, NULL), LUTSMITH_INVALID_ARGUMENT, "importance: -1");
  REFUSED(lutsmith_learn_table(&quantization, matrix.table, 16), LUTSMITH_INVALID_ARGUMENT, "importance: -1");
  quantization.importance = NULL;
  quantization.scales = "best";
  REFUSED(lutsmith_quantize(&quantization, NULL), LUTSMITH_INVALID_ARGUMENT, "absmax, mse");
  quantization.scales = NULL;
  matrix.format.table = "pair";
  REFUSED(lutsmith_learn_table(&quantization, matrix.table, 16), LUTSMITH_INVALID_ARGUMENT, "scalar");
}

static void test_what_cannot_be_quantized(void) {
  Matrix matrix = small_matrix();
  lutsmith_quantization quantization = quantization_of(&matrix);
  const float infinity = 3e38F * 10;
  REFUSED(lutsmith_quantize(NULL, NULL), LUTSMITH_INVALID_ARGUMENT, "quantization: NULL");
  quantization.weights_type = "f64";
  REFUSED(lutsmith_quantize(&quantization, NULL), LUTSMITH_INVALID_ARGUMENT, "f32, f16, bf16");
  quantization = quantization_of(&matrix);
  quantization.weights_stride = 127;
  REFUSED(lutsmith_quantize(&quantization, NULL), LUTSMITH_INVALID_ARGUMENT, "stride: 127");
  quantization = quantization_of(&matrix);
  quantization.packed_bytes = 100;
  REFUSED(lutsmith_quantize(&quantization, NULL), LUTSMITH_INVALID_ARGUMENT, "packed: 100");
  quantization = quantization_of(&matrix);
  quantization.table_length = 8;
  REFUSED(lutsmith_quantize(&quantization, NULL), LUTSMITH_INVALID_ARGUMENT, "table: 8");
  quantization = quantization_of(&matrix);
  quantization.weights = NULL;
  REFUSED(lutsmith_quantize(&quantization, NULL), LUTSMITH_INVALID_ARGUMENT, "weights: NULL");
  quantization = quantization_of(&matrix);
  matrix.weights[5 * 128 + 3] = infinity;
  REFUSED(lutsmith_quantize(&quantization, NULL), LUTSMITH_INVALID_ARGUMENT, "row 5, column 3");
}

static void test_packing(void) {
  static uint8_t codes[64 * 128];
  static uint8_t codes_again[64 * 128];
  static uint16_t scales[64 * 2];
  static uint16_t scales_again[64 * 2];
  static unsigned char packed[8192];
  const lutsmith_spec format = small_spec();
  size_t bytes = 0;
  int i;
  for (i = 0; i < 64 * 128; ++i) codes[i] = (uint8_t)(i * 7 % 16);
  for (i = 0; i < 64 * 2; ++i) scales[i] = (uint16_t)(0x3000 + i);
  CHECK(lutsmith_packed_bytes(&format, &bytes) == LUTSMITH_OK && bytes <= sizeof(packed));
  CHECK(lutsmith_pack(&format, codes, scales, packed, bytes) == LUTSMITH_OK);
  CHECK(lutsmith_unpack(&format, packed, bytes, codes_again, scales_again) == LUTSMITH_OK);
  CHECK(memcmp(codes, codes_again, sizeof(codes)) == 0);
  CHECK(memcmp(scales, scales_again, sizeof(scales)) == 0);
  REFUSED(lutsmith_pack(&format, codes, scales, packed, bytes - 1), LUTSMITH_INVALID_ARGUMENT, "packed:");
  REFUSED(lutsmith_unpack(&format, packed, bytes - 1, codes, scales), LUTSMITH_INVALID_ARGUMENT, "packed:");
  REFUSED(lutsmith_pack(&format, NULL, scales, packed, bytes), LUTSMITH_INVALID_ARGUMENT, "codes: NULL");
  codes[7] = 16;
  REFUSED(lutsmith_pack(&format, codes, scales, packed, bytes), LUTSMITH_INVALID_ARGUMENT, "codes: 16");
}

static void test_packing_offsets(void) {
  static uint8_t codes[64 * 128];
  static uint16_t scales[64 * 2];
  static uint16_t offsets[64 * 2];
  static uint16_t offsets_again[64 * 2];
  static unsigned char packed[8192];
  lutsmith_spec format = small_spec();
  size_t bytes = 0;
  int i;
  for (i = 0; i < 64 * 2; ++i) offsets[i] = (uint16_t)(0xb000 + i);
  format.offsets = 1;
  CHECK(lutsmith_packed_bytes(&format, &bytes) == LUTSMITH_OK && bytes <= sizeof(packed));
  CHECK(lutsmith_pack_offsets(&format, codes, scales, offsets, packed, bytes) == LUTSMITH_OK);
  CHECK(lutsmith_unpack_offsets(&format, packed, bytes, codes, scales, offsets_again) == LUTSMITH_OK);
  CHECK(memcmp(offsets, offsets_again, sizeof(offsets)) == 0);
  REFUSED(lutsmith_pack(&format, codes, scales, packed, bytes), LUTSMITH_INVALID_ARGUMENT, "offsets: NULL");
  REFUSED(lutsmith_unpack(&format, packed, bytes, codes, scales), LUTSMITH_INVALID_ARGUMENT, "offsets: NULL");
  format.offsets = 0;
  CHECK(lutsmith_packed_bytes(&format, &bytes) == LUTSMITH_OK);
  REFUSED(lutsmith_pack_offsets(&format, codes, scales, offsets, packed, bytes), LUTSMITH_INVALID_ARGUMENT,
          "offsets: 128 values given; allowed: 0");
}

static void test_packing_row_tables(void) {
  static uint8_t codes[64 * 128];
  static uint16_t scales[64 * 2];
  static uint16_t tables[64 * 16];
  static uint16_t tables_again[64 * 16];
  static unsigned char packed[8192];
  static float weights[64 * 128];
  static float values[16];
  lutsmith_spec format = small_spec();
  lutsmith_dequantization dequantization = LUTSMITH_DEQUANTIZATION_INIT;
  lutsmith_quantization quantization = LUTSMITH_QUANTIZATION_INIT;
  size_t bytes = 0;
  int i;
  for (i = 0; i < 64 * 2; ++i) scales[i] = 0x3c00; /* 1 */
  for (i = 0; i < 64 * 16; ++i) tables[i] = (uint16_t)(0x3000 + i);
  codes[33 * 128 + 5] = 7;
  format.table = "row";
  CHECK(lutsmith_packed_bytes(&format, &bytes) == LUTSMITH_OK && bytes <= sizeof(packed));
  CHECK(lutsmith_pack_tables(&format, codes, scales, NULL, tables, packed, bytes) == LUTSMITH_OK);
  CHECK(lutsmith_unpack_tables(&format, packed, bytes, codes, scales, NULL, tables_again) == LUTSMITH_OK);
  CHECK(memcmp(tables, tables_again, sizeof(tables)) == 0);
  REFUSED(lutsmith_pack(&format, codes, scales, packed, bytes), LUTSMITH_INVALID_ARGUMENT, "tables: NULL");
  REFUSED(lutsmith_unpack(&format, packed, bytes, codes, scales), LUTSMITH_INVALID_ARGUMENT, "tables: NULL");

  dequantization.format = &format;
  dequantization.packed = packed;
  dequantization.packed_bytes = bytes;
  dequantization.weights = weights;
  CHECK(lutsmith_dequantize(&dequantization) == LUTSMITH_OK);
  /* The bits 0x3217, 0x3210 and 0x3220. */
  CHECK(weights[33 * 128 + 5] == 0.1903076171875f && weights[33 * 128 + 6] == 0.189453125f);
  CHECK(weights[34 * 128 + 5] == 0.19140625f);
  dequantization.table = tables;
  dequantization.table_length = 16;
  REFUSED(lutsmith_dequantize(&dequantization), LUTSMITH_INVALID_ARGUMENT, "table: 16 values");

  /* One row, whose table is a two among zeros. */
  format.n = 1;
  for (i = 0; i < 128; ++i) weights[i] = 1;
  values[3] = 2;
  quantization.format = &format;
  quantization.weights = weights;
  quantization.table = values;
  quantization.table_length = 16;
  quantization.packed = packed;
  CHECK(lutsmith_packed_bytes(&format, &quantization.packed_bytes) == LUTSMITH_OK);
  CHECK(lutsmith_quantize(&quantization, NULL) == LUTSMITH_OK);
  CHECK(lutsmith_unpack_tables(&format, packed, quantization.packed_bytes, codes, scales, NULL,
                               tables_again) == LUTSMITH_OK);
  CHECK(codes[0] == 3 && codes[127] == 3);
  CHECK(tables_again[3] == 0x4000 && tables_again[4] == 0);
  quantization.table_length = 15;
  REFUSED(lutsmith_quantize(&quantization, NULL), LUTSMITH_INVALID_ARGUMENT, "table: 15 values");

  format.n = 64;
  format.table = NULL;
  CHECK(lutsmith_packed_bytes(&format, &bytes) == LUTSMITH_OK);
  REFUSED(lutsmith_pack_tables(&format, codes, scales, NULL, tables, packed, bytes),
          LUTSMITH_INVALID_ARGUMENT, "tables: 1024 values given; allowed: 0");
}

static void test_compiling(lutsmith_service* service) {
  lutsmith_spec spec = small_spec();
  lutsmith_compile_result result = LUTSMITH_COMPILE_RESULT_INIT;
  spec.target = "sm_80";
  CHECK(lutsmith_compile(service, &spec, &result) == LUTSMITH_OK);
  CHECK(strcmp(result.origin, "compiled") == 0);
  CHECK(strlen(result.key) == 64);
  CHECK(result.registers > 0);
  CHECK(result.cubin_bytes > 0);
  CHECK(lutsmith_compile(service, &spec, &result) == LUTSMITH_OK);
  CHECK(strcmp(result.origin, "memory") == 0);
  CHECK(lutsmith_compile(service, &spec, NULL) == LUTSMITH_OK);
  spec.batch_invariant = 1;
  CHECK(lutsmith_compile(service, &spec, &result) == LUTSMITH_OK);
  CHECK(strcmp(result.origin, "compiled") == 0);
  spec.batch_invariant = 2;
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "batch_invariant: 2");
  spec.batch_invariant = 0;
  spec.residual = 1;
  spec.bias = 1;
  CHECK(lutsmith_compile(service, &spec, &result) == LUTSMITH_OK);
  CHECK(strcmp(result.origin, "compiled") == 0);
  spec.gated = "silu";
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "beside a residual");
  spec.residual = 2;
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "residual: 2");
  spec.residual = 0;
  spec.bias = 0;
  CHECK(lutsmith_compile(service, &spec, &result) == LUTSMITH_OK);
  CHECK(strcmp(result.origin, "compiled") == 0);
  spec.gated = "relu";
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "gated: 'relu'");
  spec.gated = NULL;
  spec.segment_rows = 16;
  CHECK(lutsmith_compile(service, &spec, &result) == LUTSMITH_OK);
  CHECK(strcmp(result.origin, "compiled") == 0);
  spec.segment_rows = 48;
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "segment_rows: 48");
  spec.segment_rows = 1LL << 40;
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT,
          "segment_rows: 1099511627776");
  spec.segment_rows = 0;
  spec.output = "f32";
  CHECK(lutsmith_compile(service, &spec, &result) == LUTSMITH_OK);
  CHECK(strcmp(result.origin, "compiled") == 0);
  spec.output = "f64";
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "output: 'f64'");
  /* A program that was built before there was an output: what lies there is not looked at. */
  spec.struct_size = offsetof(lutsmith_spec, output);
  CHECK(lutsmith_compile(service, &spec, &result) == LUTSMITH_OK);
  spec.struct_size = sizeof(spec);
  spec.output = NULL;
  spec.m = 0;
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "m: 0");
  spec = small_spec();
  spec.target = "sm_70";
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "sm_90a");
  REFUSED(lutsmith_compile(NULL, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "service: NULL");
}

static void test_streams(void) {
  int32_t capturing = 7;
  CHECK(lutsmith_stream_is_capturing(NULL, &capturing) == LUTSMITH_OK);
  CHECK(capturing == 0);
  REFUSED(lutsmith_stream_is_capturing(NULL, NULL), LUTSMITH_INVALID_ARGUMENT, "capturing: NULL");
}

static void test_workspaces(lutsmith_service* service) {
  lutsmith_workspace* workspace = NULL;
  size_t bytes = 0;
  char* const memory = (char*)0x100000; /* only its address counts: nothing is launched into it */
  CHECK(lutsmith_workspace_bytes(service, &bytes) == LUTSMITH_OK);
  CHECK(bytes > 0);
  REFUSED(lutsmith_workspace_over(service, memory, bytes - 1, &workspace), LUTSMITH_INVALID_ARGUMENT,
          "too few");
  REFUSED(lutsmith_workspace_over(service, memory + 16, bytes, &workspace), LUTSMITH_INVALID_ARGUMENT,
          "aligned");
  CHECK(lutsmith_workspace_over(service, memory, bytes, &workspace) == LUTSMITH_OK);
  lutsmith_workspace_free(workspace);
}

/* Weights are of the format that the launch says, whatever their length: bf16 ones are as long as f16 ones.
 */
static void test_weights_of_other_formats(const lutsmith_kernel* kernel, lutsmith_workspace* workspace,
                                          const lutsmith_arguments* good) {
  lutsmith_spec other = small_spec();
  lutsmith_arguments spoilt = *good;
  size_t bytes = 0;
  spoilt.weights_format = &other;
  other.m = 77;
  other.target = "not looked at";
  CHECK(lutsmith_launch(kernel, &spoilt, workspace, NULL) == LUTSMITH_OK);

  other = small_spec();
  other.dtype = "bf16";
  CHECK(lutsmith_packed_bytes(&other, &bytes) == LUTSMITH_OK && bytes == good->weights_bytes);
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT,
          "weights: they are packed for");
  other = small_spec();
  other.n = 33; /* rows are packed 32 at a time */
  CHECK(lutsmith_packed_bytes(&other, &bytes) == LUTSMITH_OK && bytes == good->weights_bytes);
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "33x128");
  other = small_spec();
  other.table = "pair";
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT,
          "weights: they are packed for");
  other = small_spec();
  other.group = 128;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "g128");
  other = small_spec();
  other.bits = 3;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "w3");

  other.dtype = "f32";
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "f32");
  other = small_spec();
  other.struct_size = 0;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT,
          "weights_format: its struct_size");
  spoilt.weights_format = NULL;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT,
          "weights_format: NULL");
}

/* Two layers below one another, of 16 and 48 rows, each with its table. */
static void test_segments(lutsmith_service* service, lutsmith_workspace* workspace,
                          const lutsmith_arguments* good) {
  static const uint16_t tables[32] = {0};
  static const int64_t rows[2] = {16, 48};
  static const int64_t fewer[2] = {16, 8};
  lutsmith_spec spec = small_spec();
  lutsmith_kernel* kernel = NULL;
  lutsmith_arguments arguments = *good;
  spec.segment_rows = 16;
  CHECK(lutsmith_get(service, &spec, &kernel) == LUTSMITH_OK);
  if (kernel == NULL) return;
  REFUSED(lutsmith_launch(kernel, &arguments, workspace, NULL), LUTSMITH_INVALID_ARGUMENT,
          "segments: 0 given");
  arguments.segments = rows;
  arguments.segment_count = 2;
  REFUSED(lutsmith_launch(kernel, &arguments, workspace, NULL), LUTSMITH_INVALID_ARGUMENT,
          "table: 16 values; a scalar table of 4 bits has 16, and there are 2 segments");
  arguments.table = tables;
  arguments.table_length = 32;
  CHECK(lutsmith_launch(kernel, &arguments, workspace, NULL) == LUTSMITH_OK);
  arguments.segments = fewer;
  REFUSED(lutsmith_launch(kernel, &arguments, workspace, NULL), LUTSMITH_INVALID_ARGUMENT,
          "segments: 24 rows in all; allowed: n 64");
  lutsmith_kernel_free(kernel);
}

static void test_launching(lutsmith_service* service) {
  static const int64_t rows[1] = {64};
  static const uint16_t table[16] = {0};
  lutsmith_spec spec = small_spec(); /* without a target: the GPU at hand */
  lutsmith_kernel* kernel = NULL;
  lutsmith_workspace* workspace = NULL;
  lutsmith_arguments arguments = LUTSMITH_ARGUMENTS_INIT;
  lutsmith_arguments spoilt;
  REFUSED(lutsmith_get(service, &spec, NULL), LUTSMITH_INVALID_ARGUMENT, "kernel: NULL");
  CHECK(lutsmith_get(service, &spec, &kernel) == LUTSMITH_OK);
  CHECK(lutsmith_workspace_create(service, &workspace) == LUTSMITH_OK);
  if (kernel == NULL || workspace == NULL) return;

  arguments.weights_format = &spec;
  arguments.weights = (const void*)0x100000;
  CHECK(lutsmith_packed_bytes(&spec, &arguments.weights_bytes) == LUTSMITH_OK);
  arguments.activations = (const void*)0x200000;
  arguments.output = (void*)0x300000;
  arguments.table = table;
  arguments.table_length = 16;
  CHECK(lutsmith_launch(kernel, &arguments, workspace, NULL) == LUTSMITH_OK);

  test_weights_of_other_formats(kernel, workspace, &arguments);
  test_segments(service, workspace, &arguments);
  spoilt = arguments;
  spoilt.segments = rows;
  spoilt.segment_count = 1;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT,
          "segments: 1 given; this kernel has one table");
  spoilt = arguments;
  spoilt.weights = NULL;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "weights: null");
  spoilt = arguments;
  spoilt.weights_bytes -= 1;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "weights:");
  spoilt = arguments;
  spoilt.table_length = 4;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "table: 4 values");
  spoilt = arguments;
  spoilt.m = -1;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "m: -1");
  REFUSED(lutsmith_launch(kernel, &arguments, NULL, NULL), LUTSMITH_INVALID_ARGUMENT, "workspace: NULL");
  REFUSED(lutsmith_launch(NULL, &arguments, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "kernel: NULL");
  REFUSED(lutsmith_launch(kernel, NULL, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "arguments: NULL");

  lutsmith_kernel_free(kernel);
  kernel = NULL;
  spec.target = "sm_80";
  REFUSED(lutsmith_get(service, &spec, &kernel), LUTSMITH_INVALID_ARGUMENT, "sm_80 cannot run on");
  CHECK(kernel == NULL);
  lutsmith_workspace_free(workspace);
}

int main(void) {
  lutsmith_service* service = NULL;
  lutsmith_options options = LUTSMITH_OPTIONS_INIT;
  lutsmith_status opened;
  test_words();
  test_opening();
  test_specs();
  test_sizes();
  test_tables();
  test_quantizing();
  test_learning();
  test_what_cannot_be_quantized();
  test_packing();
  test_packing_offsets();
  test_packing_row_tables();
  CHECK(lutsmith_token_bucket(1) == 1 && lutsmith_token_bucket(2) == 8 && lutsmith_token_bucket(9) == 16);
  CHECK(lutsmith_token_bucket(1 << 20) == lutsmith_token_bucket(4096));
  options.memory_only = 1;
  opened = lutsmith_open(&options, &service);
  if (opened != LUTSMITH_OK) {
    fprintf(stderr, "not tested, as no service opens: %s\n", lutsmith_error_message());
    return failures > 0 ? 1 : 77;
  }
  test_compiling(service);
  test_streams();
  test_workspaces(service);
  test_launching(service);
  lutsmith_close(service);
  return failures > 0 ? 1 : 0;
}
