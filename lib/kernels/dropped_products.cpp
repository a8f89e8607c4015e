#include "kernels/dropped_products.h"

#include <torch/types.h>

#include <optional>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/dropped_products_cuda.h"
#include "kernels/float_products.h"

namespace dsft::kernels {
namespace {

void check(const at::Tensor& x, int64_t ranks, const std::vector<DroppedRows>& adapters, const DropoutKeys& keys) {
  int64_t next_rank = 0;
  for (const DroppedRows& adapter : adapters) {
    DSFT_CHECK(adapter.first_rank == next_rank, "ranks from ", adapter.first_rank, ", not ", next_rank);
    next_rank += adapter.rank;
  }
  DSFT_CHECK(x.dim() == 2 && next_rank == ranks && keys.sample_keys.size(0) == x.size(0), "dropped products of ",
             x.sizes(), " with ", ranks, " ranks and ", keys.sample_keys.size(0), " keys");
}

// What the kernels take, where they take all of it: x [T, in], low [T, ranks], both the operands and results; a may be
// undefined.
std::optional<cuda::DroppedProducts> for_kernels(const at::Tensor& x, const at::Tensor& low, const at::Tensor& a,
                                                 const std::vector<DroppedRows>& adapters, const DropoutKeys& keys) {
  for (const at::Tensor& tensor : {x, low, a})
    if (tensor.defined() && (!cuda::takes(tensor) || !tensor.is_contiguous() || !cuda::is_aligned(tensor) ||
                             tensor.scalar_type() != x.scalar_type()))
      return std::nullopt;
  if (adapters.size() > cuda::kMostDroppedAdapters) return std::nullopt;
  cuda::DroppedProducts products = {};
  for (const DroppedRows& adapter : adapters)
    products.adapters[products.num_adapters++] = {static_cast<int>(adapter.first_rank), static_cast<int>(adapter.rank),
                                                  cpu::dropout_stream(adapter.p, adapter.module, keys.seed)};
  products.in = static_cast<int>(x.size(1));
  products.ranks = static_cast<int>(low.size(1));
  products.tokens = x.size(0);
  products.samples = keys.sample_keys.const_data_ptr<int64_t>();
  products.positions = keys.positions.const_data_ptr<int64_t>();
  if (!cuda::has_dropped_products(products, cuda::float_type(x))) return std::nullopt;
  return products;
}

at::Tensor drop(const at::Tensor& x, const DroppedRows& adapter, const DropoutKeys& keys) {
  return counter_dropout(x, adapter.p, adapter.module, keys);
}

at::Tensor rows_of(const at::Tensor& a, const DroppedRows& adapter) {
  return a.narrow(0, adapter.first_rank, adapter.rank);
}
at::Tensor columns_of(const at::Tensor& low, const DroppedRows& adapter) {
  return low.narrow(1, adapter.first_rank, adapter.rank);
}

}  // namespace

at::Tensor multiply_dropped(const at::Tensor& x, const at::Tensor& a, const std::vector<DroppedRows>& adapters,
                            const DropoutKeys& keys) {
  check(x, a.size(0), adapters, keys);
  at::Tensor low = at::empty({x.size(0), a.size(0)}, x.options());
  if (const auto products = for_kernels(x, low, a, adapters, keys)) {
    cuda::multiply_dropped(*products, x.const_data_ptr(), a.const_data_ptr(), low.data_ptr(), cuda::float_type(x),
                           cuda::stream_for(x));
    return low;
  }
  for (const DroppedRows& adapter : adapters)
    columns_of(low, adapter).copy_(at::mm(drop(x, adapter, keys), rows_of(a, adapter).t()));
  return low;
}

void add_dropped(at::Tensor dx, const at::Tensor& d_low, const at::Tensor& a, const std::vector<DroppedRows>& adapters,
                 const DropoutKeys& keys) {
  check(dx, a.size(0), adapters, keys);
  if (const auto products = for_kernels(dx, d_low, a, adapters, keys)) {
    cuda::add_dropped(*products, d_low.const_data_ptr(), a.const_data_ptr(), dx.data_ptr(), cuda::float_type(dx),
                      cuda::stream_for(dx));
    return;
  }
  for (const DroppedRows& adapter : adapters)
    dx.add_(drop(at::mm(columns_of(d_low, adapter), rows_of(a, adapter)), adapter, keys));
}

at::Tensor multiply_by_dropped(const at::Tensor& d_low, const at::Tensor& x, const std::vector<DroppedRows>& adapters,
                               const DropoutKeys& keys) {
  check(x, d_low.size(1), adapters, keys);
  if (const auto products = for_kernels(x, d_low, {}, adapters, keys)) {
    const int64_t num_parts = cuda::multiply_by_dropped_num_parts(*products);
    const auto options = x.options().dtype(at::kFloat);
    at::Tensor da = at::empty({d_low.size(1), x.size(1)}, options);
    at::Tensor parts = at::empty({num_parts > 1 ? num_parts : 0, d_low.size(1), x.size(1)}, options);
    cuda::multiply_by_dropped(*products, d_low.const_data_ptr(), x.const_data_ptr(), parts.data_ptr<float>(),
                              da.data_ptr<float>(), cuda::float_type(x), cuda::stream_for(x));
    return da;
  }
  std::vector<at::Tensor> rows;
  for (const DroppedRows& adapter : adapters)
    rows.push_back(multiply_to_float(columns_of(d_low, adapter).t(), drop(x, adapter, keys)));
  return at::cat(rows);
}

}  // namespace dsft::kernels
