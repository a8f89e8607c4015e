#include "kernels/dropped_products.h"

#include <torch/types.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/dropped_products_cuda.h"
#include "kernels/float_products.h"

namespace dsft::kernels {
namespace {

// x, dx [T, in] or undefined; low [T, sum of r], or undefined where it is the result.
void check(at::ArrayRef<at::Tensor> wide, const at::Tensor& low, const at::Tensor& a,
           const std::vector<DroppedRows>& adapters, const DropoutKeys& keys) {
  int64_t next_rank = 0;
  for (const DroppedRows& adapter : adapters) {
    DSFT_CHECK(adapter.first_rank == next_rank, "ranks from ", adapter.first_rank, ", not ", next_rank);
    next_rank += adapter.rank;
  }
  const int64_t num_tokens = keys.sample_keys.size(0);
  DSFT_CHECK(a.dim() == 2 && next_rank == a.size(0) && keys.positions.size(0) == num_tokens, "dropped products of ",
             a.sizes(), " with ", next_rank, " ranks and ", num_tokens, " keys");
  for (const at::Tensor& tensor : wide)
    DSFT_CHECK(!tensor.defined() || tensor.sizes() == at::IntArrayRef({num_tokens, a.size(1)}), "dropped products of ",
               tensor.sizes(), " with ", a.sizes());
  DSFT_CHECK(!low.defined() || low.sizes() == at::IntArrayRef({num_tokens, a.size(0)}), "dropped products of ",
             low.sizes(), " with ", a.sizes());
}

// What the kernels take, where they take all of these: low [T, ranks], a [ranks, in], and tensors [T, in] of which some
// may be undefined.
std::optional<cuda::DroppedProducts> for_kernels(const at::Tensor& low, const at::Tensor& a,
                                                 at::ArrayRef<at::Tensor> wide,
                                                 const std::vector<DroppedRows>& adapters, const DropoutKeys& keys) {
  const auto is_taken = [&](const at::Tensor& tensor) {
    return !tensor.defined() || (cuda::takes(tensor) && tensor.is_contiguous() && cuda::is_aligned(tensor) &&
                                 tensor.scalar_type() == low.scalar_type());
  };
  const auto is_key = [&](const at::Tensor& numbers) {
    return numbers.is_contiguous() && numbers.device() == low.device();
  };
  if (!is_key(keys.sample_keys) || !is_key(keys.positions) || !is_taken(low) || !is_taken(a) ||
      !std::all_of(wide.begin(), wide.end(), is_taken) || adapters.size() > cuda::kMostDroppedAdapters)
    return std::nullopt;
  cuda::DroppedProducts products = {};
  for (const DroppedRows& adapter : adapters)
    products.adapters[products.num_adapters++] = {static_cast<int>(adapter.first_rank), static_cast<int>(adapter.rank),
                                                  cpu::dropout_stream(adapter.p, adapter.module, keys.seed)};
  products.in = static_cast<int>(a.size(1));
  products.ranks = static_cast<int>(a.size(0));
  products.tokens = low.size(0);
  products.samples = keys.sample_keys.const_data_ptr<int64_t>();
  products.positions = keys.positions.const_data_ptr<int64_t>();
  if (!cuda::has_dropped_products(products, cuda::float_type(low))) return std::nullopt;
  return products;
}

void* pointer_of(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr() : nullptr;
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
  check(x, {}, a, adapters, keys);
  at::Tensor low = at::empty({x.size(0), a.size(0)}, x.options());
  if (const auto products = for_kernels(low, a, x, adapters, keys)) {
    cuda::multiply_dropped(*products, x.const_data_ptr(), a.const_data_ptr(), low.data_ptr(), cuda::float_type(x),
                           cuda::stream_for(x));
    return low;
  }
  for (const DroppedRows& adapter : adapters)
    columns_of(low, adapter).copy_(at::mm(drop(x, adapter, keys), rows_of(a, adapter).t()));
  return low;
}

at::Tensor multiply_dropped_backward(at::Tensor dx, const at::Tensor& d_low, const at::Tensor& x, const at::Tensor& a,
                                     const std::vector<DroppedRows>& adapters, const DropoutKeys& keys) {
  check({dx, x}, d_low, a, adapters, keys);
  at::Tensor da;
  if (const auto products = for_kernels(d_low, a, {dx, x}, adapters, keys)) {
    at::Tensor parts;
    if (x.defined()) {
      const int64_t num_parts = cuda::multiply_dropped_backward_num_parts(*products);
      da = at::empty(a.sizes(), a.options().dtype(at::kFloat));
      if (num_parts > 1) parts = at::empty({num_parts, a.size(0), a.size(1)}, da.options());
    }
    cuda::multiply_dropped_backward(*products,
                                    {.d_low = pointer_of(d_low),
                                     .x = pointer_of(x),
                                     .a = pointer_of(a),
                                     .dx = pointer_of(dx),
                                     .parts = static_cast<float*>(pointer_of(parts)),
                                     .da = static_cast<float*>(pointer_of(da))},
                                    cuda::float_type(d_low), cuda::stream_for(d_low));
    return da;
  }
  std::vector<at::Tensor> rows;
  for (const DroppedRows& adapter : adapters) {
    const at::Tensor gradient = columns_of(d_low, adapter);
    if (dx.defined()) dx.add_(drop(at::mm(gradient, rows_of(a, adapter)), adapter, keys));
    if (x.defined()) rows.push_back(multiply_to_float(gradient.t(), drop(x, adapter, keys)));
  }
  return x.defined() ? at::cat(rows) : da;
}

}  // namespace dsft::kernels
