#include "kernels/packed_adapters.h"

#include <torch/types.h>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/packed_adapters_cuda.h"

namespace dsft::kernels {

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

}  // namespace dsft::kernels
