# The CUDA back end: src/cuda compiled by nvcc, or by g++ for the simulated device of tests/simt.

# What fixes the bits of device code; tests/test_ptx.sh inspects the result. Contraction is off, as everywhere.
set(SLOPE_CUDA_FLAGS --fmad=false)
if(NOT SLOPE_CUDA AND NOT SLOPE_SIMT)
  return()
endif()
if(SLOPE_CUDA AND SLOPE_SIMT)
  message(FATAL_ERROR "SLOPE_CUDA and SLOPE_SIMT exclude each other: a library has one CUDA back end")
endif()
file(GLOB CUDA_KERNELS CONFIGURE_DEPENDS src/cuda/*.cu)

if(SLOPE_CUDA)
  # Every architecture that Slope knows and this toolkit too; PTX of the newest serves later ones.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    find_program(SLOPE_NVCC nvcc PATHS ENV CUDA_PATH PATH_SUFFIXES bin HINTS /usr/local/cuda/bin)
    if(SLOPE_NVCC)
      execute_process(COMMAND ${SLOPE_NVCC} --list-gpu-arch OUTPUT_VARIABLE known ERROR_QUIET)
    endif()
    set(CMAKE_CUDA_ARCHITECTURES "")
    foreach(arch 75 80 86 89 90 100 120)
      if(known MATCHES "compute_${arch}\n")
        list(APPEND CMAKE_CUDA_ARCHITECTURES ${arch}-real)
        set(newest ${arch})
      endif()
    endforeach()
    if(NOT newest)
      message(FATAL_ERROR "SLOPE_CUDA needs nvcc of CUDA 12 or newer; it was not found. Set CUDACXX to its path, or "
        "configure with -DSLOPE_CUDA=OFF")
    endif()
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual)
    if(NOT CMAKE_CUDA_COMPILER)
      set(CMAKE_CUDA_COMPILER ${SLOPE_NVCC})
    endif()
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit 12 REQUIRED)
  string(REGEX REPLACE "([0-9]+)-real" "sm_\\1" SLOPE_CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
  string(REGEX REPLACE "([0-9]+)-virtual" "newer than sm_\\1" SLOPE_CUDA_ARCHITECTURES "${SLOPE_CUDA_ARCHITECTURES}")
  string(REGEX REPLACE "(^|;)([0-9]+)" "\\1sm_\\2 and newer" SLOPE_CUDA_ARCHITECTURES "${SLOPE_CUDA_ARCHITECTURES}")
  list(JOIN SLOPE_CUDA_ARCHITECTURES ", " SLOPE_CUDA_ARCHITECTURES)

  add_library(slope_cuda OBJECT ${CUDA_KERNELS})
  set_target_properties(slope_cuda PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_VISIBILITY_PRESET hidden)
  set_target_properties(slope PROPERTIES CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}") # older than the language
  target_compile_options(slope_cuda PRIVATE ${SLOPE_CUDA_FLAGS}
    "SHELL:-Xcompiler -Wall,-Wextra,-Wno-missing-field-initializers,-ffp-contract=off"
    $<$<BOOL:${SLOPE_WERROR}>:--Werror=all-warnings>)
  # To see that everything compiles, as CI does where nothing runs: a third of the time for slow kernels.
  option(SLOPE_CUDA_QUICK "Compile device code fast, with few optimisations" OFF)
  if(SLOPE_CUDA_QUICK AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13.0)
    target_compile_options(slope_cuda PRIVATE --Ofast-compile=max)
  endif()
  target_compile_definitions(slope_cuda PRIVATE SLOPE_CUDA_ARCHITECTURES="${SLOPE_CUDA_ARCHITECTURES}")
  target_link_libraries(slope PRIVATE CUDA::cudart_static CUDA::cublas CUDA::cublasLt)
else()
  file(GLOB SIMT_SOURCES CONFIGURE_DEPENDS tests/simt/*.cpp)
  add_library(slope_cuda OBJECT ${CUDA_KERNELS} ${SIMT_SOURCES})
  set_source_files_properties(${CUDA_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")
  set_target_properties(slope_cuda PROPERTIES CXX_STANDARD 17 CXX_VISIBILITY_PRESET hidden)
  target_include_directories(slope_cuda BEFORE PRIVATE tests/simt)
  # g++ 12 takes an aligned read of four floats and four reads of one for the same vector, and aligns both.
  target_compile_options(slope_cuda PRIVATE -Wno-unknown-pragmas -fno-math-errno -fno-trapping-math -fno-tree-slp-vectorize)
  target_compile_definitions(slope_cuda PRIVATE SLOPE_SIMT SLOPE_CUDA_ARCHITECTURES="the simulated device")
  target_link_libraries(slope_cuda PRIVATE slope_flags)
  # Only speed: without the instruction, fma is emulated with the same bits. Such a build is for this machine alone.
  include(CheckCXXSourceRuns)
  check_cxx_source_runs("int main() { return __builtin_cpu_supports(\"fma\") && __builtin_cpu_supports(\"avx2\") ? 0 : 1; }"
    SLOPE_SIMT_HAS_FMA)
  if(SLOPE_SIMT_HAS_FMA)
    target_compile_options(slope_cuda PRIVATE -march=x86-64-v3)
  endif()
endif()

# What kernels made for a formula are compiled from when a program runs (src/cuda/formula_compile.cu), as text.
set(formula_headers "")
foreach(name src/core/real.h src/core/math.h src/core/activation_rows.h src/core/formula.def include/slope/activations.def
    src/cuda/formula_ops.cuh)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${name})
  file(READ ${name} text)
  string(REGEX REPLACE "^(src|include)/" "" name ${name})
  string(APPEND formula_headers "{\"${name}\", R\"SLOPE(${text})SLOPE\"},\n")
endforeach()
file(CONFIGURE OUTPUT formula_headers.inc CONTENT "${formula_headers}" @ONLY)
target_include_directories(slope_cuda PRIVATE ${CMAKE_CURRENT_BINARY_DIR})
target_link_libraries(slope PRIVATE ${CMAKE_DL_LIBS})

target_include_directories(slope_cuda PRIVATE include src)
target_compile_definitions(slope_cuda PRIVATE SLOPE_CUDA)
target_sources(slope PRIVATE $<TARGET_OBJECTS:slope_cuda>)
target_compile_definitions(slope PRIVATE SLOPE_CUDA)
target_link_libraries(slope PRIVATE stdc++) # programs that use a static library are linked as C
