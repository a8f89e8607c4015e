#include "kernels/rotary.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include "kernels/cuda_tensors.h"
#include "kernels/float_types.h"
#include "kernels/rotary_cpu.h"
#include "kernels/rotary_cuda.h"

namespace dsft::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor rotate_by_kernel(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, float sign) {
  const int64_t tokens = x.size(0), heads = x.size(1), half = x.size(2) / 2;
  const bool is_dense_inside = x.stride(2) == 1 && x.stride(1) == x.size(2);
  const at::Tensor in = is_dense_inside ? x : x.contiguous();
  at::Tensor y = at::empty(x.sizes(), x.options());
  if (x.is_cuda()) {
    cuda::rotate(in.const_data_ptr(), in.stride(0), cos.const_data_ptr<float>(), sin.const_data_ptr<float>(), sign,
                 y.data_ptr(), tokens, heads, half, cuda::float_type(x), cuda::stream_for(x));
    return y;
  }
  visit_float_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, tokens, 64, [&](int64_t begin, int64_t end) {
      cpu::rotate_tokens<T>(in.const_data_ptr<T>(), in.stride(0), cos.const_data_ptr<float>(),
                            sin.const_data_ptr<float>(), sign, y.data_ptr<T>(), begin, end, heads, half);
    });
  });
  return y;
}

class Rotate : public torch::autograd::Function<Rotate> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin) {
    context->saved_data["cos"] = cos;
    context->saved_data["sin"] = sin;
    return rotate_by_kernel(x, cos, sin, 1.0f);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor x_gradient = rotate_by_kernel(gradients[0].contiguous(), context->saved_data["cos"].toTensor(),
                                                   context->saved_data["sin"].toTensor(), -1.0f);
    return {x_gradient, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  DSFT_CHECK(x.dim() == 3 && x.size(0) == cos.size(0) && x.size(2) == 2 * cos.size(1), "rotate ", x.sizes(), " by ",
             cos.sizes());
  const bool has_kernel = x.is_cpu() ? x.scalar_type() != at::kDouble : cuda::takes(x);
  if (has_kernel) return Rotate::apply(x, cos.contiguous(), sin.contiguous());
  const auto halves = x.to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).chunk(2, -1);
  const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
  return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1).to(x.scalar_type());
}

}  // namespace dsft::kernels
