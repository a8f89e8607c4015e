#include "nn/norm.h"

namespace dsft::nn {

RmsNorm::RmsNorm(int64_t size, double eps, at::TensorOptions options) : eps_(eps) {
  weight_ = register_parameter("weight", torch::empty({size}, options), /*requires_grad=*/false);
}

at::Tensor RmsNorm::forward(const at::Tensor& x) const {
  return kernels::rms_norm(x, weight_, eps_);
}

kernels::NormedSum RmsNorm::forward(const at::Tensor& x, const at::Tensor& added) const {
  return added.defined() ? kernels::add_rms_norm(x, added, weight_, eps_) : kernels::NormedSum{x, forward(x)};
}

}  // namespace dsft::nn
