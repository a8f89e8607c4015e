#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// x [rows, in] W [columns, in]^T + bias [columns] (null: none) -> y [rows, columns], in 16 bits with sums in fp32. All
/// of them dense and on 16 bytes.
struct FewRowsProduct {
  const void *x, *weight, *bias;
  void* y;
  int64_t rows, in, columns;
  /// W holds two matrices [columns, in], gate and up, and y is silu(gate) * up, each rounded as swiglu's inputs are.
  bool is_gated = false;
};

/// Whether the current device and these shapes have a kernel that is worth it. It needs no tensors.
bool has_few_rows_product(const FewRowsProduct& product, FloatType type);

void few_rows_product(const FewRowsProduct& product, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda
