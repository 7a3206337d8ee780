#pragma once

/* The release these headers belong to, for C and C++. CMake takes the project's version from here. */
#define LUTSMITH_VERSION_MAJOR 0
#define LUTSMITH_VERSION_MINOR 1
#define LUTSMITH_VERSION_PATCH 0
#define LUTSMITH_VERSION_STRING "0.1.0"
