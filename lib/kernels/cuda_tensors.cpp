#include "kernels/cuda_tensors.h"

#include "base/error.h"
#include "device/device.h"

namespace dsft::kernels::cuda {

bool takes(const at::Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  return tensor.is_cuda() && (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf);
}

FloatType float_type(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return FloatType::kFloat;
    case at::kBFloat16:
      return FloatType::kBFloat16;
    case at::kHalf:
      return FloatType::kHalf;
    default:
      DSFT_CHECK(false, "no kernel for ", c10::toString(tensor.scalar_type()));
  }
}

bool is_aligned(const at::Tensor& tensor, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % bytes == 0;
}

Stream stream_for(const at::Tensor& tensor) {
  return device::current_stream(tensor.device());
}

}  // namespace dsft::kernels::cuda
