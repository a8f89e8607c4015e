#include "nn/flat_view.h"

#include <torch/types.h>

namespace dsft::nn {

at::Tensor flat_view(const std::vector<at::Tensor>& tensors) {
  int64_t numel = 0;
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined() || !tensor.is_contiguous() || !tensor.is_alias_of(tensors[0]) ||
        tensor.scalar_type() != tensors[0].scalar_type() ||
        tensor.storage_offset() != tensors[0].storage_offset() + numel)
      return {};
    numel += tensor.numel();
  }
  return tensors[0].detach().as_strided({numel}, {1});
}

}  // namespace dsft::nn
