# Tests that are no cmocka program.
find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  # Against the format's own implementation; skipped where no Python has it (pip install safetensors numpy).
  add_test(NAME test_safetensors_python
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_safetensors_python.py $<TARGET_FILE:test_safetensors>)
  set_tests_properties(test_safetensors_python PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()

# The installed library, static and shared, as another project sees it.
if(NOT SLOPE_SANITIZE AND NOT SLOPE_SIMT AND CMAKE_GENERATOR STREQUAL "Ninja")
  set(kind static)
  set(other shared)
  if(BUILD_SHARED_LIBS)
    set(kind shared)
    set(other static)
  endif()
  add_test(NAME test_install_${kind} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/install/check.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  add_test(NAME test_install_${other}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/install/check.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/install-${other} ${other})
  set_tests_properties(test_install_${kind} PROPERTIES TIMEOUT 300)
  set_tests_properties(test_install_${other} PROPERTIES TIMEOUT 900 LABELS slow PROCESSORS 2)
endif()

# A made-up row of activations.def, in a copy of the table.
if(NOT SLOPE_SANITIZE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  add_test(NAME test_new_row COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_new_row.sh ${CMAKE_SOURCE_DIR} ${CMOCKA_LIBRARY} ${CJSON_LIBRARY})
  set_tests_properties(test_new_row PROPERTIES TIMEOUT 300 LABELS slow PROCESSORS 2)
endif()

# What the examples print, beside the page that shows it.
if(SLOPE_EXAMPLES)
  add_test(NAME test_examples COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_examples.sh ${CMAKE_BINARY_DIR}/examples
    ${CMAKE_SOURCE_DIR}/docs/examples.md)
  set_tests_properties(test_examples PROPERTIES TIMEOUT 300)
endif()

# The command, as a stranger uses it.
find_program(BASH_PROGRAM bash)
if(TARGET slope_command AND BASH_PROGRAM)
  add_test(NAME test_cli COMMAND ${BASH_PROGRAM} ${CMAKE_CURRENT_SOURCE_DIR}/test_cli.sh $<TARGET_FILE:slope_command>)
  set_tests_properties(test_cli PROPERTIES TIMEOUT 300 PROCESSORS 2)
  add_test(NAME test_compare COMMAND ${BASH_PROGRAM} ${CMAKE_CURRENT_SOURCE_DIR}/test_compare.sh $<TARGET_FILE:slope_command>)
  set_tests_properties(test_compare PROPERTIES TIMEOUT 300)
  if(SLOPE_SANITIZE) # with runs a quarter as long
    set_tests_properties(test_cli test_compare PROPERTIES TIMEOUT 900 PROCESSORS 1 COST 100 ENVIRONMENT SLOPE_TEST_QUICK=1)
    set_tests_properties(test_compare PROPERTIES LABELS slow)
  endif()
endif()

# Pictures and the report; without gnuplot what is left of them.
if(TARGET slope_command AND Python3_FOUND)
  add_test(NAME test_pictures
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_pictures.py $<TARGET_FILE:slope_command>)
  set_tests_properties(test_pictures PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()

# What it measures is not judged: times belong to no test.
if(TARGET slope_command AND BASH_PROGRAM)
  foreach(name bench card)
    add_test(NAME test_${name} COMMAND ${BASH_PROGRAM} ${CMAKE_CURRENT_SOURCE_DIR}/test_${name}.sh $<TARGET_FILE:slope_command>)
    set_tests_properties(test_${name} PROPERTIES TIMEOUT 300)
  endforeach()
  if(SLOPE_SANITIZE)
    set_tests_properties(test_bench test_card PROPERTIES TIMEOUT 900 LABELS slow ENVIRONMENT SLOPE_TEST_QUICK=1)
  endif()
endif()

if(TARGET time_to_accuracy AND TARGET slope_command AND BASH_PROGRAM)
  add_test(NAME test_time_to_accuracy COMMAND ${BASH_PROGRAM} ${CMAKE_CURRENT_SOURCE_DIR}/test_time_to_accuracy.sh
    $<TARGET_FILE:time_to_accuracy> $<TARGET_FILE:slope_command> ${Python3_EXECUTABLE})
  set_tests_properties(test_time_to_accuracy PROPERTIES TIMEOUT 300)
  if(SLOPE_SANITIZE)
    set_tests_properties(test_time_to_accuracy PROPERTIES LABELS slow)
  endif()
endif()

# The PTX of the exact kernels, once: a build of one kind says it for all.
if(BASH_PROGRAM AND NOT SLOPE_SANITIZE AND NOT SLOPE_SIMT)
  add_test(NAME test_ptx COMMAND ${BASH_PROGRAM} ${CMAKE_CURRENT_SOURCE_DIR}/test_ptx.sh ${CMAKE_SOURCE_DIR} "${CMAKE_CUDA_COMPILER}"
    ${SLOPE_CUDA_FLAGS})
  set_tests_properties(test_ptx PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300 LABELS slow PROCESSORS 2)
endif()

# Against cuRAND's own header, compiled for the host.
find_path(SLOPE_CURAND_INCLUDE_DIR curand_kernel.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ENV CUDA_HOME ENV CUDA_PATH
  PATHS /usr/local/cuda PATH_SUFFIXES include)
if(SLOPE_CURAND_INCLUDE_DIR)
  add_executable(test_curand test_curand.cpp)
  target_include_directories(test_curand PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMOCKA_INCLUDE_DIR})
  target_include_directories(test_curand SYSTEM PRIVATE ${SLOPE_CURAND_INCLUDE_DIR})
  target_link_libraries(test_curand PRIVATE slope slope_flags ${CMOCKA_LIBRARY})
  add_test(NAME test_curand COMMAND test_curand)
elseif(BASH_PROGRAM)
  add_test(NAME test_curand COMMAND ${BASH_PROGRAM} -c "echo skipped: the headers of cuRAND were not found; exit 77")
endif()
if(TEST test_curand)
  set_tests_properties(test_curand PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300 LABELS cuda)
endif()

# Tests with kernels of their own.
function(slope_cuda_test name)
  add_executable(${name} ${name}.cu)
  if(SLOPE_SIMT)
    set_source_files_properties(${name}.cu PROPERTIES LANGUAGE CXX)
    target_include_directories(${name} PRIVATE simt)
    target_compile_options(${name} PRIVATE -x c++)
    target_compile_definitions(${name} PRIVATE SLOPE_SIMT)
    target_link_libraries(${name} PRIVATE slope_flags)
  else()
    set_target_properties(${name} PROPERTIES CUDA_STANDARD 17 CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
    target_compile_options(${name} PRIVATE ${SLOPE_CUDA_FLAGS})
  endif()
  set_target_properties(${name} PROPERTIES CXX_STANDARD 17)
  target_include_directories(${name} PRIVATE ${CMOCKA_INCLUDE_DIR})
  target_link_libraries(${name} PRIVATE slope ${CMOCKA_LIBRARY})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS cuda TIMEOUT 300 SKIP_RETURN_CODE 77)
endfunction()
if(SLOPE_SIMT)
  slope_cuda_test(test_simt_blas)
endif()
if(SLOPE_SIMT OR SLOPE_CUDA)
  slope_cuda_test(test_cuda_custom)
endif()
