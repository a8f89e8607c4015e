# Compiles CUDA sources by nvcc into objects, without CMake's own CUDA language: that one links test programs, which the nvcc of the PyPI wheels
# cannot do, and brings a second CUDA runtime beside LibTorch's.

set(DSFT_CUDA_ARCHITECTURES "80;86;89;90;100;120" CACHE STRING "Compute capabilities that kernels are compiled for; the last one also as PTX, for newer ones")

if(LibTorch_HAS_CUDA)
  file(GLOB _nvcc_dirs ${LibTorch_NVIDIA_DIR}/*/bin ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/*/bin)
  find_program(DSFT_NVCC nvcc HINTS ${_nvcc_dirs} $ENV{CUDA_HOME}/bin PATHS /usr/local/cuda/bin)
endif()

# Adds objects of the .cu files in `sources` to the list `objects`.
function(dsft_cuda_objects objects)
  set(_flags -std=c++20 -O3 --expt-relaxed-constexpr -Xcompiler -Wall,-Wextra,-fPIC -ccbin ${CMAKE_CXX_COMPILER} -I${CMAKE_SOURCE_DIR}/lib
    -isystem ${LibTorch_CUDA_INCLUDE_DIR})
  foreach(_architecture ${DSFT_CUDA_ARCHITECTURES})
    list(APPEND _flags -gencode arch=compute_${_architecture},code=sm_${_architecture})
    set(_last ${_architecture})
  endforeach()
  list(APPEND _flags -gencode arch=compute_${_last},code=compute_${_last})
  foreach(_source ${ARGN})
    file(RELATIVE_PATH _name ${CMAKE_SOURCE_DIR} ${_source})
    set(_object ${CMAKE_BINARY_DIR}/cuda/${_name}.o)
    get_filename_component(_folder ${_object} DIRECTORY)
    file(MAKE_DIRECTORY ${_folder})
    add_custom_command(
      OUTPUT ${_object}
      COMMAND ${DSFT_NVCC} ${_flags} -MD -MF ${_object}.d -c ${_source} -o ${_object}
      DEPENDS ${_source} DEPFILE ${_object}.d COMMENT "Compiling CUDA ${_name}" VERBATIM)
    list(APPEND ${objects} ${_object})
  endforeach()
  set(${objects} ${${objects}} PARENT_SCOPE)
endfunction()
