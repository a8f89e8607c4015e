#include "nn/leaf_gradient.h"

#include <torch/types.h>

#include "kernels/float_products.h"

namespace dsft::nn {

at::Tensor add_to_gradient(const at::Tensor& leaf, const at::Tensor& a, const at::Tensor& b, double scale) {
  const at::Tensor& sum = leaf.grad();
  if (sum.defined() && (sum.scalar_type() == at::kFloat || sum.scalar_type() == a.scalar_type())) {
    kernels::add_product(sum, a, b, scale);
    return {};
  }
  const at::Tensor product =
      leaf.scalar_type() == a.scalar_type() ? at::mm(a, b) : kernels::multiply_to_float(a, b).to(leaf.scalar_type());
  return scale == 1.0 ? product : product.mul(scale);
}

}  // namespace dsft::nn
