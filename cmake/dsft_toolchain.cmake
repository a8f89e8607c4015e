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
add_compile_options(-Wall -Wextra -Werror -Werror=invalid-pch -Wno-restrict -fno-plt)
if(DSFT_UNITY)
  set(CMAKE_UNITY_BUILD ON)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 12)
  add_compile_options(-Wno-subobject-linkage)  # g++ takes a batch for a header, and warns of its private types
endif()
if(DSFT_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-omit-frame-pointer -g -O1)
  add_link_options(-fsanitize=address,undefined)
endif()
# DT_RPATH, not DT_RUNPATH: an LD_LIBRARY_PATH that names another CUDA toolkit or NCCL must not replace the ones LibTorch was built with.
add_link_options(-Wl,--disable-new-dtags)
