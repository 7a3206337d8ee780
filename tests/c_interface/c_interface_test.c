/* A program in C99 that uses lutsmith.h as bindings do, on the stand-in driver, which has an H100 that computes
 * nothing. Exit code 77: there is no NVRTC to compile with. */

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
  spec.m = 0;
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "m: 0");
  spec = small_spec();
  spec.target = "sm_70";
  REFUSED(lutsmith_compile(service, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "sm_90a");
  REFUSED(lutsmith_compile(NULL, &spec, &result), LUTSMITH_INVALID_ARGUMENT, "service: NULL");
}

static void test_workspaces(lutsmith_service* service) {
  lutsmith_workspace* workspace = NULL;
  size_t bytes = 0;
  char* const memory = (char*)0x100000; /* only its address counts: nothing is launched into it */
  CHECK(lutsmith_workspace_bytes(service, &bytes) == LUTSMITH_OK);
  CHECK(bytes > 0);
  REFUSED(lutsmith_workspace_over(service, memory, bytes - 1, &workspace), LUTSMITH_INVALID_ARGUMENT, "too few");
  REFUSED(lutsmith_workspace_over(service, memory + 16, bytes, &workspace), LUTSMITH_INVALID_ARGUMENT, "aligned");
  CHECK(lutsmith_workspace_over(service, memory, bytes, &workspace) == LUTSMITH_OK);
  lutsmith_workspace_free(workspace);
}

/* Weights are of the format that the launch says, whatever their length: bf16 ones are as long as f16 ones. */
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
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "weights: they are packed for");
  other = small_spec();
  other.n = 33; /* rows are packed 32 at a time */
  CHECK(lutsmith_packed_bytes(&other, &bytes) == LUTSMITH_OK && bytes == good->weights_bytes);
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "33x128");
  other = small_spec();
  other.table = "pair";
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "weights: they are packed for");
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
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "weights_format: its struct_size");
  spoilt.weights_format = NULL;
  REFUSED(lutsmith_launch(kernel, &spoilt, workspace, NULL), LUTSMITH_INVALID_ARGUMENT, "weights_format: NULL");
}

static void test_launching(lutsmith_service* service) {
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
  options.memory_only = 1;
  opened = lutsmith_open(&options, &service);
  if (opened != LUTSMITH_OK) {
    fprintf(stderr, "not tested, as no service opens: %s\n", lutsmith_error_message());
    return failures > 0 ? 1 : 77;
  }
  test_compiling(service);
  test_workspaces(service);
  test_launching(service);
  lutsmith_close(service);
  return failures > 0 ? 1 : 0;
}
