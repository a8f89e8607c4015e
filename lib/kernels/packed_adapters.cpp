#include "kernels/packed_adapters.h"

#include <torch/types.h>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/packed_adapters_cuda.h"

namespace dsft::kernels {
namespace {

bool is_flat_float(const at::Tensor& tensor) {
  return cuda::takes(tensor) && tensor.scalar_type() == at::kFloat && tensor.is_contiguous();
}

}  // namespace

bool packs_adapters(const at::Tensor& x, size_t num_adapters) {
  return cuda::takes(x) && c10::elementSize(x.scalar_type()) == 2 && num_adapters <= cuda::kMostPackedAdapters;
}

PackedAdapters pack_adapters(const std::vector<AdapterOfColumns>& adapters, int64_t columns, const at::Tensor& x) {
  DSFT_CHECK(packs_adapters(x, adapters.size()) && !adapters.empty(), adapters.size(), " adapters for ", x.sizes());
  cuda::PackedAdapterPointers pointers = {};
  pointers.num_adapters = static_cast<int>(adapters.size());
  pointers.in = x.size(1);
  pointers.columns = columns;
  std::vector<at::Tensor> alive;
  for (size_t i = 0; i < adapters.size(); ++i) {
    const AdapterOfColumns& adapter = adapters[i];
    DSFT_CHECK(adapter.a.scalar_type() == at::kFloat && adapter.b.scalar_type() == at::kFloat &&
                   adapter.a.size(1) == x.size(1) && adapter.a.size(0) == adapter.b.size(1) &&
                   adapter.first + adapter.b.size(0) <= columns,
               "an adapter of ", adapter.a.sizes(), " and ", adapter.b.sizes(), " from column ", adapter.first);
    const at::Tensor a = adapter.a.contiguous(), b = adapter.b.contiguous();
    alive.insert(alive.end(), {a, b});
    pointers.adapters[i] = {a.const_data_ptr<float>(),
                            b.const_data_ptr<float>(),
                            static_cast<float>(adapter.scale),
                            adapter.first,
                            b.size(0),
                            adapter.first_rank,
                            b.size(1)};
    pointers.ranks += b.size(1);
  }
  const PackedAdapters packed{at::empty({pointers.ranks, pointers.in}, x.options()),
                              at::empty({columns, pointers.ranks}, x.options())};
  pointers.a = packed.a.data_ptr();
  pointers.b = packed.b.data_ptr();
  cuda::pack_adapters(pointers, cuda::float_type(x), cuda::stream_for(x));
  return packed;
}

void add_unpacked_gradients(const PackedAdapters& packed, const std::vector<AdapterOfColumns>& sums) {
  const at::Tensor &a = packed.a, &b = packed.b;
  if (!a.defined() && !b.defined()) return;
  DSFT_CHECK(!sums.empty() && sums.size() <= cuda::kMostPackedAdapters, sums.size(), " adapters");
  cuda::PackedGradientPointers pointers = {};
  pointers.num_adapters = static_cast<int>(sums.size());
  pointers.in = sums[0].a.size(1);
  pointers.ranks = a.defined() ? a.size(0) : b.size(1);
  DSFT_CHECK(!a.defined() || (is_flat_float(a) && a.size(1) == pointers.in), "a gradient of ", a.sizes(),
             " for rows of ", pointers.in);
  DSFT_CHECK(!b.defined() || (is_flat_float(b) && b.size(1) == pointers.ranks), "a gradient of ", b.sizes(), " for ",
             pointers.ranks, " ranks");
  for (size_t i = 0; i < sums.size(); ++i) {
    const AdapterOfColumns& sum = sums[i];
    const int64_t width = sum.b.size(0), rank = sum.b.size(1);
    DSFT_CHECK(is_flat_float(sum.a) && is_flat_float(sum.b) && sum.a.size(0) == rank && sum.a.size(1) == pointers.in &&
                   sum.first_rank + rank <= pointers.ranks && (!b.defined() || sum.first + width <= b.size(0)),
               "gradients of ", sum.a.sizes(), " and ", sum.b.sizes(), " from column ", sum.first);
    pointers.sums[i] = {sum.a.data_ptr<float>(),
                        sum.b.data_ptr<float>(),
                        static_cast<float>(sum.scale),
                        sum.first,
                        width,
                        sum.first_rank,
                        rank};
  }
  pointers.a = a.defined() ? a.const_data_ptr<float>() : nullptr;
  pointers.b = b.defined() ? b.const_data_ptr<float>() : nullptr;
  cuda::add_unpacked_gradients(pointers, cuda::stream_for(sums[0].a));
  // written below autograd's eyes
  for (const AdapterOfColumns& sum : sums) {
    if (a.defined()) sum.a.unsafeGetTensorImpl()->bump_version();
    if (b.defined()) sum.b.unsafeGetTensorImpl()->bump_version();
  }
}

}  // namespace dsft::kernels
