# Preprocesses two files with the include path of COMPONENT: one that includes every header of the ALLOWED folders, which
# must be found, and one that asks for each header of the FORBIDDEN ones, which must not be. INCLUDE_DIRECTORIES is the
# component's, as its target has it.

set(flags -std=c++23)
foreach(directory IN LISTS INCLUDE_DIRECTORIES)
  # Empty where the installed tree has an entry of its own; /usr/include is on the path anyway.
  if(directory AND NOT directory STREQUAL "/usr/include")
    list(APPEND flags -I${directory})
  endif()
endforeach()

# Writes `text` around every header of the folders, whose place in it is HEADER, and preprocesses that; the number of
# headers and what the compiler said, nothing where it was content.
function(preprocess name text folders number outcome)
  set(content "")
  set(found 0)
  foreach(folder IN LISTS folders)
    if(folder STREQUAL include)
      file(GLOB headers RELATIVE ${ROOT}/include ${ROOT}/include/lutsmith/*.h)
    else()
      file(GLOB_RECURSE headers RELATIVE ${ROOT} ${ROOT}/${folder}/*.h)
      list(FILTER headers EXCLUDE REGEX "^emulator/device/")
    endif()
    foreach(header IN LISTS headers)
      string(REPLACE HEADER ${header} lines "${text}")
      string(APPEND content "${lines}")
      math(EXPR found "${found} + 1")
    endforeach()
  endforeach()
  set(file ${WORK}/${COMPONENT}_${name}.cpp)
  file(WRITE ${file} "${content}")
  execute_process(COMMAND ${COMPILER} ${flags} -E -o /dev/null ${file} RESULT_VARIABLE status ERROR_VARIABLE errors)
  if(status EQUAL 0)
    set(errors "")
  endif()
  set(${number} ${found} PARENT_SCOPE)
  set(${outcome} "${errors}" PARENT_SCOPE)
endfunction()

preprocess(includes_what_it_may "#include \"HEADER\"\n" "${ALLOWED}" tried outcome)
if(outcome)
  message(SEND_ERROR "${COMPONENT} may include ${ALLOWED}, yet:\n${outcome}")
endif()
if(tried EQUAL 0)
  message(SEND_ERROR "no header was tried for ${ALLOWED}; the folders are not where this test looks: ${ROOT}")
endif()

set(asked "#if __has_include(\"HEADER\")\n#error ${COMPONENT} must not include HEADER, yet it is found\n#endif\n")
preprocess(includes_another "${asked}" "${FORBIDDEN}" tried outcome)
if(outcome)
  message(SEND_ERROR "${outcome}")
endif()
