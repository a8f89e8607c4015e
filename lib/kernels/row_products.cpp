#include "kernels/row_products.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/equal_products_cuda.h"
#include "kernels/row_products_cpu.h"

namespace dsft::kernels {
namespace {

constexpr int64_t kRowsOfProduct = 256;
constexpr uintptr_t kAlignment = 64;  // bytes; a BLAS looks at addresses too

at::Tensor by_cpu_kernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor in = x.contiguous(), rows = weight.contiguous(), added = bias.defined() ? bias.contiguous() : bias;
  at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  const cpu::RowProducts products{.x = in.const_data_ptr<float>(),
                                  .weight = rows.const_data_ptr<float>(),
                                  .bias = added.defined() ? added.const_data_ptr<float>() : nullptr,
                                  .y = y.data_ptr<float>(),
                                  .rows = x.size(0),
                                  .in = x.size(1),
                                  .columns = weight.size(0)};
  constexpr int64_t kWorthAThread = int64_t{1} << 18;  // multiplications
  const int64_t of_tile = cpu::kTileColumns * std::min(cpu::kTileRows, x.size(0)) * x.size(1);
  at::parallel_for(0, products.num_tiles(), std::max<int64_t>(1, kWorthAThread / std::max<int64_t>(1, of_tile)),
                   [&](int64_t begin, int64_t end) { cpu::multiply_tiles(products, begin, end); });
  return y;
}

// With rows one behind another, from an address on that all kernels take.
at::Tensor aligned(const at::Tensor& x) {
  const at::Tensor dense = x.contiguous();
  return reinterpret_cast<uintptr_t>(dense.const_data_ptr()) % kAlignment == 0 ? dense : dense.clone();
}

// y[i] = x[i] W^T, products of one size.
void multiply_products(const at::Tensor& x, const at::Tensor& weight, at::Tensor y) {
  if (cuda::takes(x)) return cuda::equal_products(x, weight, y);
  for (int64_t i = 0; i < x.size(0); ++i) {
    at::Tensor out = y[i];
    at::mm_out(out, x[i], weight.t());
  }
}

at::Tensor by_equal_products(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t rows = x.size(0), whole = rows / kRowsOfProduct, rest = rows % kRowsOfProduct;
  at::Tensor y = at::empty({whole + (rest > 0), kRowsOfProduct, weight.size(0)}, x.options());
  const at::Tensor in = aligned(x), of_columns = aligned(weight);
  multiply_products(in.narrow(0, 0, rows - rest).view({whole, kRowsOfProduct, x.size(1)}), of_columns,
                    y.narrow(0, 0, whole));
  if (rest > 0) {
    const at::Tensor filled = at::zeros({1, kRowsOfProduct, x.size(1)}, x.options());
    filled[0].narrow(0, 0, rest).copy_(in.narrow(0, rows - rest, rest));
    multiply_products(filled, of_columns, y.narrow(0, whole, 1));
  }
  const at::Tensor product = y.view({-1, weight.size(0)}).narrow(0, 0, rows);
  return bias.defined() ? product.add_(bias) : product;
}

}  // namespace

bool has_row_products(const at::TensorOptions& options) {
  return options.device().is_cpu() && c10::typeMetaToScalarType(options.dtype()) == at::kFloat;
}

at::Tensor multiply_each_row(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  DSFT_CHECK(x.dim() == 2 && weight.dim() == 2 && weight.size(1) == x.size(1) &&
                 (!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0))),
             "a product of ", x.sizes(), " and ", weight.sizes());
  const at::NoGradGuard no_grad;
  return has_row_products(x.options()) ? by_cpu_kernel(x, weight, bias) : by_equal_products(x, weight, bias);
}

}  // namespace dsft::kernels
