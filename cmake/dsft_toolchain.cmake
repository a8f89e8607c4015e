# One set of compile flags for everything: a precompiled header made with other flags would be dropped in silence.
find_program(DSFT_CCACHE ccache)
if(DSFT_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${DSFT_CCACHE})
endif()
find_program(DSFT_MOLD mold)
if(DSFT_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

find_package(Threads REQUIRED)
# -Wrestrict: false alarms of g++ 12 on std::string concatenation (GCC bug 105651)
add_compile_options(-Wall -Wextra -Werror -Werror=invalid-pch $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> -fno-plt)
if(DSFT_UNITY)
  set(CMAKE_UNITY_BUILD ON)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 12)
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)  # g++ takes a batch for a header, and warns of its private types
endif()
if(DSFT_SANITIZE)
  if(DSFT_TORCH)
    message(FATAL_ERROR "DSFT_SANITIZE=ON needs DSFT_TORCH=OFF: cmake --preset sanitize")
  endif()
  # a fault ends the program, so that a test or a fuzzer sees it; float-cast-overflow is in neither compiler's "undefined"
  set(_sanitizers -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all)
  add_compile_options(${_sanitizers} -fno-omit-frame-pointer -g -O1 -D_GLIBCXX_ASSERTIONS)
  # g++ gives false alarms on instrumented code, as its manual says of -fsanitize
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_link_options(${_sanitizers})
endif()
if(DSFT_FUZZ)
  if(NOT DSFT_SANITIZE OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "DSFT_FUZZ=ON needs DSFT_SANITIZE=ON and clang++: cmake --preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
# DT_RPATH, not DT_RUNPATH: an LD_LIBRARY_PATH that names another CUDA toolkit or NCCL must not replace the ones LibTorch was built with.
add_link_options(-Wl,--disable-new-dtags)

# A compiler that puts libstdc++ into the program (a wrapper with -static-libstdc++) makes a second one beside LibTorch's: threads and frees go wrong.
if(DSFT_TORCH AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT DEFINED DSFT_HAS_SHARED_LIBSTDCXX)
  file(WRITE ${CMAKE_BINARY_DIR}/links_libstdcxx.cpp "#include <iostream>\nint main() { std::cout << 1; }\n")
  try_compile(_links SOURCES ${CMAKE_BINARY_DIR}/links_libstdcxx.cpp COPY_FILE ${CMAKE_BINARY_DIR}/links_libstdcxx)
  execute_process(COMMAND ${CMAKE_READELF} -d ${CMAKE_BINARY_DIR}/links_libstdcxx OUTPUT_VARIABLE _needed)
  if(_links AND NOT _needed MATCHES "libstdc\\+\\+\\.so")
    message(FATAL_ERROR "${CMAKE_CXX_COMPILER} links libstdc++ statically, but LibTorch brings the shared one, and a program must not have both. "
      "Name another compiler: remove ${CMAKE_BINARY_DIR}, then CXX=/usr/bin/g++ scripts/build.sh")
  endif()
  set(DSFT_HAS_SHARED_LIBSTDCXX ON CACHE INTERNAL "The compiler links the shared libstdc++")
endif()
