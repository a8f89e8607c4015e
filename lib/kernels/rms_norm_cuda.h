#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// Whether rows of this size have a kernel.
bool has_rms_norm(FloatType type, int64_t size);

/// What is added to x on the way: `residual` [rows, size], of x's type, or num_parts of `parts` [num_parts, rows,
/// size], fp32; the others null. x and all of these, rounded once, are written to `sum`.
struct NormAddition {
  const void* residual = nullptr;
  const float* parts = nullptr;
  int64_t num_parts = 0;
  void* sum = nullptr;
};

/// y = weight * round(x * inverse_rms) for each of `rows` rows; writes inverse_rms [rows], fp32, unless it is null.
void rms_norm(const void* x, const NormAddition& addition, const void* weight, void* y, float* inverse_rms,
              int64_t rows, int64_t size, float eps, FloatType type, Stream stream);

/// Rows of the partial sums that rms_norm_backward writes.
int64_t rms_norm_num_parts(FloatType type, int64_t size);

/// The gradient of x, with `sum_gradient` added where that is not null; where `weight_parts` [rms_norm_num_parts(type,
/// size), size] is not null, also partial sums of the weight's gradient, fp32.
void rms_norm_backward(const void* gradient, const void* sum_gradient, const void* x, const void* weight,
                       const float* inverse_rms, void* x_gradient, float* weight_parts, int64_t rows, int64_t size,
                       FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda
