#include "kernels/multiply_to_float.h"

#include <torch/types.h>

namespace dsft::kernels {

at::Tensor multiply_to_float(const at::Tensor& a, const at::Tensor& b) {
  const bool is_16_bit = c10::elementSize(a.scalar_type()) == 2;
  if (a.is_cuda() && is_16_bit) return at::mm(a, b, at::kFloat);
  const at::Tensor product = at::mm(a, b);
  return is_16_bit ? product.to(at::kFloat) : product;
}

}  // namespace dsft::kernels
