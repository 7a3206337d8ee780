# Emits a kernel with LUTSMITH for SPEC and compiles the text with NVCC for ARCHITECTURE, in WORK.
file(MAKE_DIRECTORY ${WORK})
execute_process(COMMAND ${LUTSMITH} emit ${SPEC} OUTPUT_FILE ${WORK}/kernel.cu RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "emit failed: ${status}")
endif()
execute_process(COMMAND ${NVCC} -std=c++17 -Werror all-warnings -cubin
    -gencode=arch=compute_${ARCHITECTURE},code=sm_${ARCHITECTURE} -o ${WORK}/kernel.cubin ${WORK}/kernel.cu
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "nvcc refuses the emitted source ${WORK}/kernel.cu")
endif()
