#ifndef LUTSMITH_H
#define LUTSMITH_H

/*
 * lutsmith for C (C99 and later) and for whatever can call C: opens a service, gets kernels and launches
 * them. The C++ interface (lutsmith/lutsmith.h) can do more; docs/c_interface.md shows a program.
 *
 * Functions that can fail return a lutsmith_status, LUTSMITH_OK being 0, and then write nothing to their
 * results; lutsmith_error_message() says why. Handles are made by one function and freed by another, which
 * takes NULL too. A service and kernels may be used by many threads at a time, a workspace by one stream.
 * Strings that are given may go away when the call returns.
 *
 * Structures begin with their size, so that a program works with a later library whose structures are longer:
 * initialise with the macro beside each, which sets it and zeroes the rest.
 */

#include <stddef.h>
#include <stdint.h>

#include "lutsmith/version.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LUTSMITH_C_API __attribute__((visibility("default")))

typedef enum lutsmith_status {
  LUTSMITH_OK = 0,
  LUTSMITH_INVALID_ARGUMENT = 1,   /* a value the caller gave is outside what is allowed */
  LUTSMITH_NOT_FOUND = 2,          /* a file, library, symbol or device is missing */
  LUTSMITH_UNSUPPORTED = 3,        /* well-formed, but not on this compiler, driver or GPU */
  LUTSMITH_COMPILATION_FAILED = 4, /* a compiler refused the source; the context holds its log */
  LUTSMITH_CORRUPT_DATA = 5,       /* a file or buffer contradicts its own format */
  LUTSMITH_IO_ERROR = 6,           /* the operating system refused a read or a write */
  LUTSMITH_DRIVER_ERROR = 7,       /* the CUDA driver returned an error */
  LUTSMITH_OUT_OF_MEMORY = 8,      /* host or device memory ran out */
  LUTSMITH_KERNEL_FAULT = 9,       /* the emulator caught a kernel in a mistake */
  /* None: so that C++ may read any number. */
  LUTSMITH_STATUS_LARGEST = 0x7fffffff
} lutsmith_status;

/* The release of the library that is loaded, such as "0.1.0"; LUTSMITH_VERSION_STRING is this header's. */
LUTSMITH_C_API const char* lutsmith_version(void);

/* "invalid_argument" and the like. */
LUTSMITH_C_API const char* lutsmith_status_name(lutsmith_status status);

/* Of the last call of this thread that failed: one line that says what was given, what is allowed and what to
 * do; and more lines where they help, such as a compiler's log, else "". Valid until this thread's next
 * call fails. */
LUTSMITH_C_API const char* lutsmith_error_message(void);
LUTSMITH_C_API const char* lutsmith_error_context(void);

/* ---- the service ---- */

typedef struct lutsmith_service lutsmith_service;

/* What is left NULL or 0 comes from the environment, else from the default; docs/cache.md lists both. */
typedef struct lutsmith_options {
  size_t struct_size;
  const char* cache_directory; /* keeps kernels */
  const char* nvrtc;           /* the library to open, its folder, or the root of a toolkit */
  const char* compile;         /* "when-needed", or "never": fails at once for what is not in the cache */
  int32_t memory_only;         /* not 0: keeps nothing outside of this process */
  uint32_t compile_jobs;       /* compiles at a time; 0: as many as cores and memory allow */
} lutsmith_options;
#define LUTSMITH_OPTIONS_INIT {sizeof(lutsmith_options), NULL, NULL, NULL, 0, 0}

/* Opens NVRTC and the cache; needs no GPU. `options` may be NULL. */
LUTSMITH_C_API lutsmith_status lutsmith_open(const lutsmith_options* options, lutsmith_service** service);
LUTSMITH_C_API void lutsmith_close(lutsmith_service* service);

/* ---- kernels ---- */

/* What a kernel computes: Y[m, n] = sum over k of X[m, k] * weight[n, k], the weight being
 * scale[n, k / group] * table[code[n, k]], with offsets plus offset[n, k / group]; and what is made of these
 * sums, in fp32, before they are rounded to the output's type, once. */
typedef struct lutsmith_spec {
  size_t struct_size;
  int32_t bits;      /* per code: 1 to 4 */
  int32_t group;     /* weights per scale along K: 32, 64, 128, 256; 0: one scale for each row */
  int64_t n;         /* output channels */
  int64_t k;         /* input channels, a multiple of 8 */
  int64_t m;         /* tokens the kernel is made for, and what a launch brings unless it says otherwise */
  const char* dtype; /* "f16" or "bf16"; NULL: f16 */
  const char* table; /* "scalar", "pair", or "row": a table for each row, in the packed bytes; NULL: scalar */
  const char* target; /* such as "sm_90a"; NULL: the GPU at hand */
  int64_t
      batch_invariant; /* 1: a token's result does not depend on the other tokens of a launch; 0: it may */
  int64_t offsets;     /* 1: an offset beside each scale is added to the weights of its group; 0: none */
  int32_t residual;    /* 1: R [m, n] of the launch is added */
  int32_t bias;        /* 1: b [n] of the launch is added to every token; also beside a residual */
  /* "silu" or "gelu_tanh": Y [m, n / 2] = activation(gate) * up, of rows that take turns, 8 and 8: row 16 * i
   * + j is row 8 * i + j of the gate, row 16 * i + 8 + j that of the other matrix, for j < 8; n is a multiple
   * of 16. "none" or NULL: every row is a channel of Y. */
  const char* gated;
  /* Rows come in segments, each with a table of its own (scalar): layers that stand below one another. Which
   * rows they have, a launch says; all but the last have a multiple of this number: 16, 32, 64, 128 or 256.
   * 0: one table for all rows. */
  int64_t segment_rows;
  const char* output; /* type of Y and R: "f16", "bf16", "f32"; "same" or NULL: dtype */
} lutsmith_spec;
#define LUTSMITH_SPEC_INIT {sizeof(lutsmith_spec), 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, 0, 0, 0, NULL, 0, NULL}

/* Bytes of such a matrix as lutsmith packs it. */
LUTSMITH_C_API lutsmith_status lutsmith_packed_bytes(const lutsmith_spec* spec, size_t* bytes);

/* ---- weights, in host memory; these need neither a service nor a GPU ---- */

/* The values behind the codes of a method: "nf", "int", "fp" (4 bits), "lloyd". `length` is 2^bits. */
LUTSMITH_C_API lutsmith_status lutsmith_table(const char* method, int32_t bits, float* values, size_t length);

/* A matrix that is to be packed, and where to. */
typedef struct lutsmith_quantization {
  size_t struct_size;
  const lutsmith_spec* format; /* what to pack for; m and target are not looked at */
  const void* weights;         /* [n, k], row-major and finite */
  const char* weights_type;    /* "f32", "f16", "bf16"; NULL: f32 */
  int64_t weights_stride;      /* elements between rows; 0: k */
  const float* table;          /* the values behind the codes: lutsmith_table's, or any */
  size_t table_length;         /* 2^bits; with table "pair" 2 * 2^(2 * bits), with "row" n * 2^bits */
  void* packed;                /* result: what a launch takes */
  size_t packed_bytes;         /* lutsmith_packed_bytes of the format */
  uint16_t* stored_table;      /* result: the table in the format's dtype, as a launch takes it; NULL: none */
  uint32_t threads;            /* 0: one for each core */
  const char* scales;          /* "absmax", "mse" (least squared error), "rms"; NULL: absmax */
  const float* importance;     /* [k]: how often the squared error of each column counts; NULL: all alike */
} lutsmith_quantization;
#define LUTSMITH_QUANTIZATION_INIT \
  {sizeof(lutsmith_quantization), NULL, NULL, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, NULL}

/* Rounds every weight to the nearest entry of the table times the scale of its group, and packs.
 * `weight_error`, which may be NULL, becomes ||packed - weights|| / ||weights||. Refuses weights that are not
 * finite or that the scales' type cannot hold; `packed` then holds anything. */
LUTSMITH_C_API lutsmith_status lutsmith_quantize(const lutsmith_quantization* quantization,
                                                 double* weight_error);

/* A table for these weights, learned by k-means, for lutsmith_quantize with scales "mse". Of `quantization`
 * format (table "scalar"), weights, importance and threads count. `length` is 2^bits. */
LUTSMITH_C_API lutsmith_status lutsmith_learn_table(const lutsmith_quantization* quantization, float* values,
                                                    size_t length);

/* Packed weights that are to be turned into numbers, and where to. */
typedef struct lutsmith_dequantization {
  size_t struct_size;
  const lutsmith_spec* format; /* what they were packed for; m and target are not looked at */
  const void* packed;
  size_t packed_bytes;
  const uint16_t* table; /* as a launch takes it: with table "row" NULL */
  size_t table_length;
  int64_t first_row;        /* a multiple of 32 */
  int64_t rows;             /* 0: all from first_row on */
  void* weights;            /* result: [rows, k], row-major */
  const char* weights_type; /* "f32", "f16", "bf16"; NULL: f32 */
  int64_t weights_stride;   /* elements between rows; 0: k */
  uint32_t threads;         /* 0: one for each core */
  const int64_t*
      segments; /* rows of each segment with a table of its own, as a launch takes them; NULL: none */
  size_t segment_count;
} lutsmith_dequantization;
#define LUTSMITH_DEQUANTIZATION_INIT \
  {sizeof(lutsmith_dequantization), NULL, NULL, 0, NULL, 0, 0, 0, NULL, NULL, 0, 0, NULL, 0}

/* scale * table[code] of every weight, with offsets plus its offset, rounded once to weights_type. */
LUTSMITH_C_API lutsmith_status lutsmith_dequantize(const lutsmith_dequantization* dequantization);

/* The packed bytes of codes [n, k], each below 2^bits, and scales [n, groups of a row] in the format's dtype,
 * both row-major; and back, exactly. For weights that were quantized elsewhere. */
LUTSMITH_C_API lutsmith_status lutsmith_pack(const lutsmith_spec* format, const uint8_t* codes,
                                             const uint16_t* scales, void* packed, size_t packed_bytes);
LUTSMITH_C_API lutsmith_status lutsmith_unpack(const lutsmith_spec* format, const void* packed,
                                               size_t packed_bytes, uint8_t* codes, uint16_t* scales);
/* The same with offsets: where the format has them, they are as scales; else they are NULL. */
LUTSMITH_C_API lutsmith_status lutsmith_pack_offsets(const lutsmith_spec* format, const uint8_t* codes,
                                                     const uint16_t* scales, const uint16_t* offsets,
                                                     void* packed, size_t packed_bytes);
LUTSMITH_C_API lutsmith_status lutsmith_unpack_offsets(const lutsmith_spec* format, const void* packed,
                                                       size_t packed_bytes, uint8_t* codes, uint16_t* scales,
                                                       uint16_t* offsets);
/* The same for every format: with table "row", tables are [n, 2^bits] in the format's dtype, row-major; else
 * they are NULL. */
LUTSMITH_C_API lutsmith_status lutsmith_pack_tables(const lutsmith_spec* format, const uint8_t* codes,
                                                    const uint16_t* scales, const uint16_t* offsets,
                                                    const uint16_t* tables, void* packed,
                                                    size_t packed_bytes);
LUTSMITH_C_API lutsmith_status lutsmith_unpack_tables(const lutsmith_spec* format, const void* packed,
                                                      size_t packed_bytes, uint8_t* codes, uint16_t* scales,
                                                      uint16_t* offsets, uint16_t* tables);

/* ---- kernels that are compiled ---- */

typedef struct lutsmith_compile_result {
  size_t struct_size;
  char key[65];      /* 64 hexadecimal digits */
  char origin[15];   /* "memory", "disk", "remote", "compiled" */
  int32_t registers; /* per thread */
  int32_t spill_bytes;
  size_t cubin_bytes;
  double milliseconds; /* of this request; 0 where it was answered from memory */
} lutsmith_compile_result;
#define LUTSMITH_COMPILE_RESULT_INIT {sizeof(lutsmith_compile_result), {0}, {0}, 0, 0, 0, 0}

/* Finds or compiles the kernel; with a target in `spec` it needs no GPU. `result` may be NULL. */
LUTSMITH_C_API lutsmith_status lutsmith_compile(lutsmith_service* service, const lutsmith_spec* spec,
                                                lutsmith_compile_result* result);

/* Names the kernel that `m` tokens have: the most tokens it is made for, 8 for 2 to 8. Any more than the last
 * such number share its kernel; what no spec may have stays as it is. */
LUTSMITH_C_API int64_t lutsmith_token_bucket(int64_t m);

typedef struct lutsmith_kernel lutsmith_kernel;

/* The same, loaded on the GPU of the current CUDA context (the primary one of device 0 where none is). Quick
 * where it was asked for before. Kernels outlive their service. */
LUTSMITH_C_API lutsmith_status lutsmith_get(lutsmith_service* service, const lutsmith_spec* spec,
                                            lutsmith_kernel** kernel);
LUTSMITH_C_API void lutsmith_kernel_free(lutsmith_kernel* kernel);

/* ---- launches ---- */

/* Device memory for partial sums: one workspace for each stream that launches at the same time. */
typedef struct lutsmith_workspace lutsmith_workspace;

/* Bytes that suit every kernel on the current GPU. */
LUTSMITH_C_API lutsmith_status lutsmith_workspace_bytes(lutsmith_service* service, size_t* bytes);
LUTSMITH_C_API lutsmith_status lutsmith_workspace_create(lutsmith_service* service,
                                                         lutsmith_workspace** workspace);
/* Over the caller's device memory, 256-byte aligned, which must outlive the workspace's launches. All of it
 * must be zero before the first launch; launches leave it ready for the next one, unless one fails on the
 * GPU. */
LUTSMITH_C_API lutsmith_status lutsmith_workspace_over(lutsmith_service* service, void* memory, size_t bytes,
                                                       lutsmith_workspace** workspace);
LUTSMITH_C_API void lutsmith_workspace_free(lutsmith_workspace* workspace);

/* One multiplication. Device pointers but for the table and weights_format; matrices row-major. Weights of
 * another format or length than the kernel's are refused. */
typedef struct lutsmith_arguments {
  size_t struct_size;
  const lutsmith_spec* weights_format; /* what they were packed for; m and target are not looked at */
  const void* weights;                 /* packed, 16-byte aligned */
  size_t weights_bytes;                /* lutsmith_packed_bytes of that format */
  const void* activations;             /* X [m, k], 16-byte aligned */
  void* output; /* Y [m, n], gated [m, n / 2], of the spec's output type: aligned to one of its elements */
  const uint16_t* table; /* host memory, 16-bit floats of the kernel's dtype; copied. With table "row" NULL:
                            the weights have theirs */
  size_t table_length;   /* values */
  int64_t m;             /* tokens; 0: those of the kernel's spec */
  int64_t activation_stride; /* elements between rows of X, a multiple of 8; 0: k */
  int64_t output_stride;     /* elements between rows of Y; 0: its channels */
  int32_t partitions;        /* Stream-K partitions; 0: the library's choice */
  const void* residual; /* R [m, n] of a spec with one, of the output's type and likewise aligned: the output
                           itself, with its stride, or apart */
  int64_t residual_stride; /* elements between rows of R; 0: n */
  const void* bias;        /* b [n] of a spec with one, 2-byte aligned; the launch ahead must not write it */
  const int64_t* segments; /* rows of each segment of a spec with segment_rows, n in all; host memory, copied.
                              `table` then has a table of each, one behind another. NULL: none */
  size_t segment_count;    /* 1 to 4; 0: none */
} lutsmith_arguments;
#define LUTSMITH_ARGUMENTS_INIT \
  {sizeof(lutsmith_arguments), NULL, NULL, 0, NULL, NULL, NULL, 0, 0, 0, 0, 0, NULL, 0, NULL, NULL, 0}

struct CUstream_st;

/* Enqueues on a CUstream or cudaStream_t, NULL being the default stream: no allocation, no synchronisation,
 * legal inside graph capture. Nothing is enqueued where an argument is refused. */
LUTSMITH_C_API lutsmith_status lutsmith_launch(const lutsmith_kernel* kernel,
                                               const lutsmith_arguments* arguments,
                                               lutsmith_workspace* workspace, struct CUstream_st* stream);

/* Whether what is put on the stream is recorded into a graph, not run: 1 or 0. Getting a kernel that is not
 * loaded yet, or making a workspace, is not allowed then. */
LUTSMITH_C_API lutsmith_status lutsmith_stream_is_capturing(struct CUstream_st* stream, int32_t* capturing);

#ifdef __cplusplus
}
#endif

#endif
