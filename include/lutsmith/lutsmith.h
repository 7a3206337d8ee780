#pragma once

/// Everything a program that serves or researches quantized models needs.
#include "lutsmith/cache.h"          // IWYU pragma: export
#include "lutsmith/codegen.h"        // IWYU pragma: export
#include "lutsmith/error.h"          // IWYU pragma: export
#include "lutsmith/float16.h"        // IWYU pragma: export
#include "lutsmith/kernel_spec.h"    // IWYU pragma: export
#include "lutsmith/matmul.h"         // IWYU pragma: export
#include "lutsmith/quantization.h"   // IWYU pragma: export
#include "lutsmith/safetensors.h"    // IWYU pragma: export
#include "lutsmith/service.h"        // IWYU pragma: export
#include "lutsmith/target.h"         // IWYU pragma: export
#include "lutsmith/version.h"        // IWYU pragma: export
#include "lutsmith/weight_format.h"  // IWYU pragma: export
