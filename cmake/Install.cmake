# cmake --install: headers, library, command line, and the package for find_package(lutsmith).
include(CMakePackageConfigHelpers)

install(TARGETS lutsmith lutsmith_include EXPORT lutsmith
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS lutsmith_tool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/lutsmith DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN *.h)
install(FILES ${PROJECT_SOURCE_DIR}/include/lutsmith.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/lutsmith)
# The library brings all it needs, so the targets file is the whole configuration.
install(EXPORT lutsmith FILE lutsmith-config.cmake NAMESPACE lutsmith:: DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lutsmith-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/lutsmith-config-version.cmake DESTINATION ${package_folder})
