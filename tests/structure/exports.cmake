# The dynamic symbols that LIBRARY defines all belong to namespace lutsmith or to lutsmith.h; with EXPECTED, that one is
# the only one.

execute_process(COMMAND ${NM} -D --defined-only -C ${LIBRARY} OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "[;\\[]" " " output "${output}")
string(REGEX REPLACE "\n" ";" lines "${output}")

set(ours 0)
foreach(line IN LISTS lines)
  if(line STREQUAL "")
    continue()
  endif()
  string(REGEX REPLACE "^[0-9a-f]+ +[A-Za-z] +" "" symbol "${line}")
  if(EXPECTED)
    if(NOT symbol STREQUAL EXPECTED)
      message(SEND_ERROR "${LIBRARY} shows more than ${EXPECTED}: ${symbol}")
    endif()
    math(EXPR ours "${ours} + 1")
  elseif(symbol MATCHES "^(vtable for |typeinfo for |typeinfo name for |guard variable for )?lutsmith::" OR
     symbol MATCHES "^lutsmith_[a-z_]+$")
    math(EXPR ours "${ours} + 1")
  else()
    message(SEND_ERROR "${LIBRARY} shows a symbol that is not lutsmith's: ${symbol}")
  endif()
endforeach()
if(ours EQUAL 0)
  message(SEND_ERROR "${LIBRARY} exports nothing; a program could not use it")
endif()
