#pragma once

/// Marks what the shared library exports; everything else is hidden, LLVM's symbols included.
#define LUTSMITH_API __attribute__((visibility("default")))
