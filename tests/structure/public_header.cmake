# HEADER includes nothing but the standard library and its neighbours, and compiles on its own.

file(STRINGS ${HEADER} includes REGEX "^[ \t]*#[ \t]*include")
foreach(line IN LISTS includes)
  # The standard library's headers are the ones without a dot or a folder in their name.
  if(NOT line MATCHES "<[a-z0-9_]+>" AND NOT line MATCHES "\"lutsmith/[a-z0-9_]+\\.h\"")
    message(SEND_ERROR "${HEADER} includes more than the standard library: ${line}")
  endif()
endforeach()

execute_process(COMMAND ${COMPILER} -std=c++23 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I${INCLUDE}
  -include ${HEADER} -x c++ /dev/null RESULT_VARIABLE status ERROR_VARIABLE errors)
if(NOT status EQUAL 0)
  message(SEND_ERROR "${HEADER} does not compile on its own:\n${errors}")
endif()
