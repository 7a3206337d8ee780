# BINARY needs no shared library but those every Linux machine with a C++ runtime has.

execute_process(COMMAND ${READELF} -d ${BINARY} OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "\\(NEEDED\\)[^\n]*" lines "${output}")
if(NOT lines)
  message(SEND_ERROR "${BINARY} names no library at all; is it linked?")
endif()
foreach(line IN LISTS lines)
  if(NOT line MATCHES "(libc|libm|libstdc\\+\\+|libgcc_s|libdl|libpthread|librt|ld-linux-x86-64)\\.so\\.[0-9]+")
    message(SEND_ERROR "${BINARY} needs more than the C and C++ runtime: ${line}")
  endif()
endforeach()
