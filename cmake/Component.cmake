# A component is a folder of the project. Its headers are included as "folder/header.h", through a view:
# a directory in the build tree that holds nothing but a link to that one folder. Only the views that a
# component USES are on its include path.

add_library(lutsmith_include INTERFACE)
target_include_directories(lutsmith_include INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(lutsmith_include INTERFACE cxx_std_23)

add_library(lutsmith_warnings INTERFACE)
target_compile_options(lutsmith_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
  -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast -Wimplicit-fallthrough)
# g++ 12 sees uninitialised values inside <regex> and <functional> when a sanitizer is on. (Not elsewhere:
# clang-tidy, which reads the commands of the release build, does not know the warning; neither does clang.)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  target_compile_options(lutsmith_warnings INTERFACE -Wno-maybe-uninitialized)
endif()
# clang 19 finds fault with how std::stable_sort of libstdc++ 12 allocates.
if(CMAKE_CXX_COMPILER_ID STREQUAL Clang)
  target_compile_options(lutsmith_warnings INTERFACE -Wno-deprecated-declarations)
endif()
# g++ says so by itself, clang only from its 21st version on.
if(CMAKE_CXX_COMPILER_ID STREQUAL Clang AND CMAKE_CXX_FLAGS MATCHES "-fsanitize=address")
  add_compile_definitions(__SANITIZE_ADDRESS__)
endif()
option(LUTSMITH_WERROR "Treat warnings as errors" OFF)
if(LUTSMITH_WERROR)
  target_compile_options(lutsmith_warnings INTERFACE -Werror)
endif()

set(LUTSMITH_UNITE_SOURCES OFF CACHE STRING "Compile neighbouring source files as one, in half the time: ON, TESTS (those of tests only) or OFF")
if(LUTSMITH_UNITE_SOURCES)
  find_package(Python3 REQUIRED)
endif()

# lutsmith_unite_sources(TARGET): with the option, those of TARGET's files that can be compiled as one are. For builds
# whose compiler is slow, by instrumenting what every file includes, and for the tests of continuous integration; its
# release build shows that each other file includes what it needs. After a change that gives two files the same name
# for something, run cmake again.
function(lutsmith_unite_sources target)
  set(tests ${PROJECT_SOURCE_DIR}/tests)
  cmake_path(IS_PREFIX tests ${CMAKE_CURRENT_SOURCE_DIR} of_tests)
  if(NOT LUTSMITH_UNITE_SOURCES OR (LUTSMITH_UNITE_SOURCES STREQUAL TESTS AND NOT of_tests))
    return()
  endif()
  get_target_property(all ${target} SOURCES)
  set(sources "")
  foreach(source IN LISTS all)
    cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} NORMALIZE)
    cmake_path(IS_PREFIX CMAKE_CURRENT_SOURCE_DIR ${source} in_this_folder)
    # Of another program in this folder, for its neighbours there.
    get_source_file_property(group ${source} UNITY_GROUP)
    if(in_this_folder AND NOT group)
      list(APPEND sources ${source})
    endif()
  endforeach()
  execute_process(COMMAND ${Python3_EXECUTABLE} -B ${PROJECT_SOURCE_DIR}/scripts/source_groups.py 8 ${sources}
    OUTPUT_VARIABLE groups COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" groups "${groups}")
  foreach(numbered IN LISTS groups)
    string(REGEX MATCH "^([0-9]+) (.*)$" numbered "${numbered}")
    set_source_files_properties(${CMAKE_MATCH_2} PROPERTIES UNITY_GROUP ${target}_${CMAKE_MATCH_1})
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  # g++ takes every file that another includes for a header, where this would be a mistake.
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
endfunction()

# lutsmith_header_component(NAME): the headers of folder NAME, as target lutsmith_NAME_headers.
function(lutsmith_header_component name)
  set(view ${PROJECT_BINARY_DIR}/views/${name})
  file(MAKE_DIRECTORY ${view})
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${name} ${view}/${name} SYMBOLIC)
  add_library(lutsmith_${name}_headers INTERFACE)
  target_include_directories(lutsmith_${name}_headers INTERFACE ${view})
endfunction()

# lutsmith_component(NAME [USES component...] [SOURCES file...]): objects of folder NAME, from every source file in
# it and from those named.
# What a component's own headers include must be in its USES as well as in its user's; core is in everybody's.
function(lutsmith_component name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;USES")
  lutsmith_header_component(${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS *.cpp)
  add_library(lutsmith_${name} OBJECT ${sources} ${arg_SOURCES})
  target_link_libraries(lutsmith_${name}
    PUBLIC lutsmith_include
    PRIVATE lutsmith_${name}_headers lutsmith_warnings lutsmith_llvm lutsmith_fmt nlohmann_json::nlohmann_json)
  target_compile_options(lutsmith_${name} PRIVATE -ffunction-sections -fdata-sections)
  foreach(used core ${arg_USES})
    target_link_libraries(lutsmith_${name} PRIVATE lutsmith_${used}_headers)
  endforeach()
  lutsmith_unite_sources(lutsmith_${name})
endfunction()

# lutsmith_embed(VARIABLE FILES file... HEADER header FUNCTION name): a source file with the text of the files
# in it, to be compiled into the component; VARIABLE gets its path. Include the header for the function.
function(lutsmith_embed variable)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "HEADER;FUNCTION" "FILES")
  set(output ${PROJECT_BINARY_DIR}/${arg_FUNCTION}.cpp)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} "-DFILES=${arg_FILES}" -DROOT=${PROJECT_SOURCE_DIR} -DHEADER=${arg_HEADER}
      -DFUNCTION=${arg_FUNCTION} -DOUTPUT=${output} -P ${PROJECT_SOURCE_DIR}/cmake/EmbedFiles.cmake
    DEPENDS ${arg_FILES} ${PROJECT_SOURCE_DIR}/cmake/EmbedFiles.cmake
    VERBATIM)
  set(${variable} ${output} PARENT_SCOPE)
endfunction()

# lutsmith_embed_large(VARIABLE FILES file... HEADER header FUNCTION name): the same for files too large for string
# literals, which the assembler puts into the binary as they are; their names are without folders.
function(lutsmith_embed_large variable)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "HEADER;FUNCTION" "FILES")
  set(output ${PROJECT_BINARY_DIR}/${arg_FUNCTION}.cpp)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} "-DFILES=${arg_FILES}" -DHEADER=${arg_HEADER} -DFUNCTION=${arg_FUNCTION} -DOUTPUT=${output}
      -P ${PROJECT_SOURCE_DIR}/cmake/EmbedLargeFiles.cmake
    DEPENDS ${arg_FILES} ${PROJECT_SOURCE_DIR}/cmake/EmbedLargeFiles.cmake
    VERBATIM)
  set(${variable} ${output} PARENT_SCOPE)
endfunction()

# lutsmith_leak_check(TARGET): decides whether a program of a build with the address sanitizer checks for leaks.
function(lutsmith_leak_check target)
  if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=address")
    target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/leak_check.cpp)
  endif()
endfunction()
