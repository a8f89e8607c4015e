#include "kernels/swiglu.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include "kernels/cuda_tensors.h"
#include "kernels/float_types.h"
#include "kernels/swiglu_cpu.h"
#include "kernels/swiglu_cuda.h"

namespace dsft::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kGrain = 16384;

void forward_cpu(const at::Tensor& gate, const at::Tensor& up, at::Tensor& y) {
  visit_float_type(gate.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      cpu::swiglu_elements<T>(gate.const_data_ptr<T>(), up.const_data_ptr<T>(), y.data_ptr<T>(), begin, end);
    });
  });
}

void backward_cpu(const at::Tensor& gradient, const at::Tensor& gate, const at::Tensor& up, at::Tensor& gate_gradient,
                  at::Tensor& up_gradient) {
  visit_float_type(gradient.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, gradient.numel(), kGrain, [&](int64_t begin, int64_t end) {
      cpu::swiglu_backward_elements<T>(gradient.const_data_ptr<T>(), gate.const_data_ptr<T>(), up.const_data_ptr<T>(),
                                       gate_gradient.data_ptr<T>(), up_gradient.data_ptr<T>(), begin, end);
    });
  });
}

class Swiglu : public torch::autograd::Function<Swiglu> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    at::Tensor y = at::empty_like(gate);
    if (gate.is_cpu())
      forward_cpu(gate, up, y);
    else
      cuda::swiglu(gate.const_data_ptr(), up.const_data_ptr(), y.data_ptr(), gate.numel(), cuda::float_type(gate),
                   cuda::stream_for(gate));
    context->save_for_backward({gate, up});
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1], gradient = gradients[0].contiguous();
    at::Tensor gate_gradient = at::empty_like(gate), up_gradient = at::empty_like(up);
    if (gate.is_cpu())
      backward_cpu(gradient, gate, up, gate_gradient, up_gradient);
    else
      cuda::swiglu_backward(gradient.const_data_ptr(), gate.const_data_ptr(), up.const_data_ptr(),
                            gate_gradient.data_ptr(), up_gradient.data_ptr(), gate.numel(), cuda::float_type(gate),
                            cuda::stream_for(gate));
    return {gate_gradient, up_gradient};
  }
};

}  // namespace

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  DSFT_CHECK(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(), "swiglu of ", gate.sizes(), " and ",
             up.sizes());
  const bool has_kernel = gate.is_cpu() ? gate.scalar_type() != at::kDouble : cuda::takes(gate);
  if (has_kernel) return Swiglu::apply(gate.contiguous(), up.contiguous());
  return at::silu(gate) * up;
}

}  // namespace dsft::kernels
