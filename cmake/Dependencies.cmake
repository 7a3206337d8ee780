# Third-party libraries; docs/dependencies.md has the reason for each.

# LLVM's own CMake package asks for zlib, zstd and more, which the two archives used here do not need.
# build/llvm is what scripts/bootstrap unpacks where the package is not installed.
set(llvm_roots /usr/lib/llvm-19 ${PROJECT_SOURCE_DIR}/build/llvm)
find_library(LLVM_SUPPORT_ARCHIVE NAMES libLLVMSupport.a PATHS ${llvm_roots} PATH_SUFFIXES lib NO_DEFAULT_PATH REQUIRED)
find_library(LLVM_DEMANGLE_ARCHIVE NAMES libLLVMDemangle.a PATHS ${llvm_roots} PATH_SUFFIXES lib NO_DEFAULT_PATH REQUIRED)
find_path(LLVM_INCLUDE_DIR NAMES llvm/ADT/StringRef.h PATHS ${llvm_roots} PATH_SUFFIXES include NO_DEFAULT_PATH REQUIRED)
add_library(lutsmith_llvm INTERFACE)
target_include_directories(lutsmith_llvm SYSTEM INTERFACE ${LLVM_INCLUDE_DIR})
target_link_libraries(lutsmith_llvm INTERFACE ${LLVM_SUPPORT_ARCHIVE} ${LLVM_DEMANGLE_ARCHIVE})

# Not fmt::fmt, which is a shared library, nor fmt::fmt-header-only, which every file would compile anew.
find_path(FMT_INCLUDE_DIR NAMES fmt/format-inl.h REQUIRED)
add_library(lutsmith_fmt STATIC ${PROJECT_SOURCE_DIR}/cmake/fmt.cpp)
target_include_directories(lutsmith_fmt SYSTEM PUBLIC ${FMT_INCLUDE_DIR})
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Threads REQUIRED)
set(Boost_USE_STATIC_LIBS ON)
find_package(Boost 1.74 REQUIRED COMPONENTS context)

# Static, as the programs need nothing but the C and C++ runtime.
find_library(ZSTD_ARCHIVE NAMES libzstd.a REQUIRED)
find_path(ZSTD_INCLUDE_DIR NAMES zstd.h REQUIRED)
add_library(lutsmith_zstd INTERFACE)
target_include_directories(lutsmith_zstd SYSTEM INTERFACE ${ZSTD_INCLUDE_DIR})
target_link_libraries(lutsmith_zstd INTERFACE ${ZSTD_ARCHIVE})

find_library(RE2_ARCHIVE NAMES libre2.a REQUIRED)
find_path(RE2_INCLUDE_DIR NAMES re2/re2.h REQUIRED)
add_library(lutsmith_re2 INTERFACE)
target_include_directories(lutsmith_re2 SYSTEM INTERFACE ${RE2_INCLUDE_DIR})
target_link_libraries(lutsmith_re2 INTERFACE ${RE2_ARCHIVE} Threads::Threads)

# Opened at run time; here only their headers are needed.
find_path(CURL_INCLUDE_DIR NAMES curl/curl.h REQUIRED)
find_path(OPENSSL_INCLUDE_DIR NAMES openssl/evp.h REQUIRED)

# Scripts that are embedded and put into the pages that `lutsmith report` writes.
find_path(VEGA_DIRECTORY NAMES vega-util.min.js PATHS /usr/share/javascript/vega NO_DEFAULT_PATH REQUIRED
  DOC "Vega's modules; Debian package libjs-vega")
