#include "kernels/few_rows_product.h"

#include <torch/types.h>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/few_rows_product_cuda.h"

namespace dsft::kernels {
namespace {

at::Tensor multiply(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool is_gated) {
  DSFT_CHECK(x.dim() == 2 && weight.dim() == 2 && weight.size(1) == x.size(1) &&
                 weight.scalar_type() == x.scalar_type() && weight.device() == x.device() &&
                 (!is_gated || weight.size(0) % 2 == 0),
             "a product of ", x.sizes(), " and ", weight.sizes());
  DSFT_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0) && bias.is_contiguous() &&
                                 bias.scalar_type() == x.scalar_type() && bias.device() == x.device()),
             "a bias ", bias.sizes(), " of ", weight.size(0), " results");
  if (!cuda::takes(x) || !weight.is_contiguous()) return {};
  const at::Tensor in = x.contiguous();
  cuda::FewRowsProduct product{.x = in.const_data_ptr(),
                               .weight = weight.const_data_ptr(),
                               .bias = bias.defined() ? bias.const_data_ptr() : nullptr,
                               .y = nullptr,
                               .rows = x.size(0),
                               .in = x.size(1),
                               .columns = is_gated ? weight.size(0) / 2 : weight.size(0),
                               .is_gated = is_gated};
  const bool are_aligned =
      cuda::is_aligned(in) && cuda::is_aligned(weight) && (!bias.defined() || cuda::is_aligned(bias));
  if (!are_aligned || !cuda::has_few_rows_product(product, cuda::float_type(x))) return {};
  at::Tensor y = at::empty({product.rows, product.columns}, x.options());
  product.y = y.data_ptr();
  cuda::few_rows_product(product, cuda::float_type(x), cuda::stream_for(x));
  return y;
}

}  // namespace

at::Tensor multiply_few_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return multiply(x, weight, bias, /*is_gated=*/false);
}

at::Tensor multiply_few_rows_gated(const at::Tensor& x, const at::Tensor& weight) {
  return multiply(x, weight, /*bias=*/{}, /*is_gated=*/true);
}

}  // namespace dsft::kernels
