# Installs BUILD to a fresh prefix in WORK, moves the prefix, then configures, builds and runs SOURCE against it.

function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${what} failed (${status}):\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK}/staging ${WORK}/prefix ${WORK}/build)
run("cmake --install" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/staging)
# A package that names the place it was built for breaks here.
file(RENAME ${WORK}/staging ${WORK}/prefix)

run("configuring the outside project" ${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/build -G ${GENERATOR}
  -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_FLAGS=${FLAGS} -DCMAKE_PREFIX_PATH=${WORK}/prefix)
run("building the outside project" ${CMAKE_COMMAND} --build ${WORK}/build)
run("the outside program" ${WORK}/build/consumer)
if(NOT output MATCHES "bits" OR NOT output MATCHES "9")
  message(FATAL_ERROR "the outside program should print an error that names bits and 9; it printed: ${output}")
endif()

run("the installed command line" ${WORK}/prefix/bin/lutsmith --version)
if(NOT output MATCHES "${VERSION}")
  message(FATAL_ERROR "lutsmith --version should print ${VERSION}; it printed: ${output}")
endif()
