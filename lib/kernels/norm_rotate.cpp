#include "kernels/norm_rotate.h"

#include <torch/autograd.h>
#include <torch/types.h>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/norm_rotate_cuda.h"
#include "kernels/rms_norm.h"
#include "kernels/rotary.h"

namespace dsft::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

cuda::HeadRows rows_of(const at::Tensor& x) {
  return {.tokens = x.size(0), .heads = x.size(1), .half = x.size(2) / 2};
}

class NormRotate : public torch::autograd::Function<NormRotate> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps,
                            const at::Tensor& cos, const at::Tensor& sin) {
    at::Tensor y = at::empty_like(x);
    cuda::norm_rotate(x.const_data_ptr(), weight.const_data_ptr(), cos.const_data_ptr<float>(),
                      sin.const_data_ptr<float>(), static_cast<float>(eps), y.data_ptr(), rows_of(x),
                      cuda::float_type(x), cuda::stream_for(x));
    context->save_for_backward({x, weight});
    context->saved_data["eps"] = eps;
    context->saved_data["cos"] = cos;
    context->saved_data["sin"] = sin;
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], gradient = gradients[0].contiguous();
    const at::Tensor cos = context->saved_data["cos"].toTensor(), sin = context->saved_data["sin"].toTensor();
    at::Tensor x_gradient = at::empty_like(x), parts;
    if (context->needs_input_grad(1))
      parts = at::zeros({cuda::norm_rotate_num_parts(), x.size(2)}, x.options().dtype(at::kFloat));
    cuda::norm_rotate_backward(
        gradient.const_data_ptr(), x.const_data_ptr(), weight.const_data_ptr(), cos.const_data_ptr<float>(),
        sin.const_data_ptr<float>(), static_cast<float>(context->saved_data["eps"].toDouble()), x_gradient.data_ptr(),
        parts.defined() ? parts.data_ptr<float>() : nullptr, rows_of(x), cuda::float_type(x), cuda::stream_for(x));
    return {x_gradient, parts.defined() ? parts.sum(0).to(weight.scalar_type()) : at::Tensor(), {}, {}, {}};
  }
};

}  // namespace

at::Tensor norm_rotate(const at::Tensor& x, const at::Tensor& weight, double eps, const at::Tensor& cos,
                       const at::Tensor& sin) {
  DSFT_CHECK(x.dim() == 3 && weight.dim() == 1 && weight.size(0) == x.size(2) &&
                 weight.scalar_type() == x.scalar_type() && cos.size(0) == x.size(0) && 2 * cos.size(1) == x.size(2) &&
                 cos.sizes() == sin.sizes(),
             "norm_rotate of ", x.sizes(), " by ", weight.sizes(), " and ", cos.sizes());
  if (cuda::takes(x) && cuda::has_norm_rotate(x.size(2)))
    return NormRotate::apply(x.contiguous(), weight, eps, cos.contiguous(), sin.contiguous());
  return rotate(rms_norm(x, weight, eps), cos, sin);
}

}  // namespace dsft::kernels
