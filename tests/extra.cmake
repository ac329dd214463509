# Tests that are no cmocka program.
find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  # Against the format's own implementation; skipped where no Python has it (pip install safetensors numpy).
  add_test(NAME test_safetensors_python
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_safetensors_python.py $<TARGET_FILE:test_safetensors>)
  set_tests_properties(test_safetensors_python PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()
