#include "kernels/embedding_gradient.h"

#include <torch/types.h>

#include <tuple>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/embedding_gradient_cuda.h"

namespace dsft::kernels {

void add_embedding_gradient(at::Tensor sum, const at::Tensor& ids, const at::Tensor& gradient) {
  DSFT_CHECK(sum.dim() == 2 && gradient.dim() == 2 && sum.is_contiguous() && gradient.is_contiguous() &&
                 ids.dim() == 1 && ids.size(0) == gradient.size(0) && gradient.size(1) == sum.size(1),
             "an embedding gradient ", gradient.sizes(), " of ids ", ids.sizes(), " for ", sum.sizes());
  if (!cuda::takes(gradient)) {
    const auto [unique, place] = at::_unique(ids, /*sorted=*/true, /*return_inverse=*/true);
    const at::Tensor totals = at::zeros({unique.size(0), sum.size(1)}, sum.options());
    totals.index_add_(0, place, gradient.to(sum.scalar_type()));
    sum.index_add_(0, unique, totals);
    return;
  }
  DSFT_CHECK(sum.scalar_type() == at::kFloat, "an embedding gradient is summed in ", c10::toString(sum.scalar_type()));
  // the tokens in the order of their ids, those of one id in their own
  const auto [sorted, order] = at::sort(ids.to(at::kInt), /*stable=*/true, /*dim=*/0, /*descending=*/false);
  cuda::add_embedding_gradient(sum.data_ptr<float>(), sorted.const_data_ptr<int>(), order.const_data_ptr<int64_t>(),
                               gradient.const_data_ptr(), gradient.size(0), gradient.size(1),
                               cuda::float_type(gradient), cuda::stream_for(gradient));
  sum.unsafeGetTensorImpl()->bump_version();  // written below autograd's eyes
}

}  // namespace dsft::kernels
