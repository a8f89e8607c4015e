#include "nn/norm.h"

#include "kernels/rms_norm.h"

namespace dsft::nn {

RmsNorm::RmsNorm(int64_t size, double eps, at::TensorOptions options) : eps_(eps) {
  weight_ = register_parameter("weight", torch::empty({size}, options), /*requires_grad=*/false);
}

at::Tensor RmsNorm::forward(const at::Tensor& x) const {
  return kernels::rms_norm(x, weight_, eps_);
}

}  // namespace dsft::nn
