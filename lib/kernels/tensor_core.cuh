// Products of 16 x 16 by 16 x 8 on the tensor cores, in 16 bits with sums in fp32.
#pragma once

#include "kernels/cuda_common.cuh"

namespace dsft::kernels::cuda {

/// sums += a b by a warp (mma.sync.m16n8k16). Lane 4 g + t holds of a [16, 16] the words of rows g, g + 8, g, g + 8 at
/// columns 2 t, 2 t, 2 t + 8, 2 t + 8; of b [16, 8] those of column g at rows 2 t and 2 t + 8; of the sums those of
/// rows g, g, g + 8, g + 8 at columns 2 t, 2 t + 1, 2 t, 2 t + 1. The last argument says the type.
#define DSFT_MULTIPLY_ADD(Type, name)                                                                                 \
  __device__ inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Type) {     \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." name "." name                                               \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                               \
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                                         \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                     \
  }
DSFT_MULTIPLY_ADD(__nv_bfloat16, "bf16")
DSFT_MULTIPLY_ADD(__half, "f16")
#undef DSFT_MULTIPLY_ADD

/// 16 bytes: eight numbers in four words.
struct Words {
  uint32_t words[4];
};
template <typename T>
__device__ Words load_words(const T* from) {
  const uint4 all = *reinterpret_cast<const uint4*>(from);
  return {{all.x, all.y, all.z, all.w}};
}

/// The same of what no kernel of the step writes, and which is read once; where it is said is where it is asked for.
template <typename T>
__device__ Words load_constant_words(const T* from) {
  Words out;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.words[0]), "=r"(out.words[1]), "=r"(out.words[2]), "=r"(out.words[3])
               : "l"(from));
  return out;
}

template <typename T>
__device__ void store_words(T* to, const Words& words) {
  *reinterpret_cast<uint4*>(to) = make_uint4(words.words[0], words.words[1], words.words[2], words.words[3]);
}

/// Four matrices of 8 x 8 of shared memory (ldmatrix.x4): lane 4 g + t gets of each columns 2 t and 2 t + 1 of row g.
/// Lanes 8 i to 8 i + 7 say where the rows of matrix i lie.
#define DSFT_LOAD_MATRICES(function, layout)                                                              \
  template <typename T>                                                                                   \
  __device__ Words function(const T* row) {                                                               \
    Words out;                                                                                            \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" layout ".shared.b16 {%0, %1, %2, %3}, [%4];"             \
                 : "=r"(out.words[0]), "=r"(out.words[1]), "=r"(out.words[2]), "=r"(out.words[3])         \
                 : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))                              \
                 : "memory");                                                                             \
    return out;                                                                                           \
  }
DSFT_LOAD_MATRICES(load_matrices, "")
/// The same, transposed: rows 2 t and 2 t + 1 of column g.
DSFT_LOAD_MATRICES(load_transposed, ".trans")
#undef DSFT_LOAD_MATRICES

}  // namespace dsft::kernels::cuda
