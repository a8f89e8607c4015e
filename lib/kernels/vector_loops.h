#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

/// Compiles a loop function for the widest vectors of the machine it runs on (chosen when the program starts).
#define DSFT_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
