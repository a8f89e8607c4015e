#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

/// Compiles a loop function for the widest vectors of the machine it runs on (chosen when the program starts). Other
/// processors than x86 have one width (64-bit Arm: NEON), which the compiler uses anyway.
#ifdef __x86_64__
#define DSFT_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DSFT_VECTOR_CLONES
#endif
