#include "nn/parameter_memory.h"

#include <torch/types.h>

namespace dsft::nn {

bool has_memory(const at::Tensor& tensor) {
  return tensor.numel() == 0 || tensor.storage().unsafeGetStorageImpl()->data() != nullptr;
}

void release_memory(const at::Tensor& tensor) {
  tensor.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(nullptr, tensor.device()));
}

void release_memory(const torch::nn::Module& module) {
  for (const at::Tensor& parameter : module.parameters()) release_memory(parameter);
}

}  // namespace dsft::nn
