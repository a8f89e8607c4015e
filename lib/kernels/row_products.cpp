#include "kernels/row_products.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/row_products_cpu.h"

namespace dsft::kernels {

at::Tensor multiply_each_row(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  DSFT_CHECK(x.dim() == 2 && weight.dim() == 2 && weight.size(1) == x.size(1) &&
                 (!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0))),
             "a product of ", x.sizes(), " and ", weight.sizes());
  for (const at::Tensor& tensor : {x, weight, bias})
    if (tensor.defined() && !(tensor.is_cpu() && tensor.scalar_type() == at::kFloat)) return {};
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

}  // namespace dsft::kernels
