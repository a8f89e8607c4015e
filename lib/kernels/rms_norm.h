#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// Root-mean-square normalisation of the last dimension: y = weight * round(x / sqrt(mean(x^2) + eps)), statistics in
/// fp32, `round` to x's type before the product, as transformers' LlamaRMSNorm does it. x [..., D] of any float type,
/// weight [D] of the same type. Differentiable in x and weight. Source: Zhang and Sennrich, "Root mean square layer
/// normalization", 2019.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// x + residual, rounded to the type, and its rms_norm; on a GPU in one pass, forward and backward. Without gradients
/// the residual may also be parts [P, T, D] in fp32 of a sum (multiply_in_parts).
struct NormedSum {
  at::Tensor sum, normed;
};
NormedSum add_rms_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps);

}  // namespace dsft::kernels
