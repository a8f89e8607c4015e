#include "kernels/swiglu.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include "kernels/float_types.h"
#include "kernels/swiglu_cpu.h"

namespace dsft::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kGrain = 16384;

class SwigluCpu : public torch::autograd::Function<SwigluCpu> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    at::Tensor y = at::empty_like(gate);
    visit_float_type(gate.scalar_type(), [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
        cpu::swiglu_elements<T>(gate.const_data_ptr<T>(), up.const_data_ptr<T>(), y.data_ptr<T>(), begin, end);
      });
    });
    context->save_for_backward({gate, up});
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor gradient = gradients[0].contiguous();
    at::Tensor gate_gradient = at::empty_like(saved[0]), up_gradient = at::empty_like(saved[1]);
    visit_float_type(gradient.scalar_type(), [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, gradient.numel(), kGrain, [&](int64_t begin, int64_t end) {
        cpu::swiglu_backward_elements<T>(gradient.const_data_ptr<T>(), saved[0].const_data_ptr<T>(),
                                         saved[1].const_data_ptr<T>(), gate_gradient.data_ptr<T>(),
                                         up_gradient.data_ptr<T>(), begin, end);
      });
    });
    return {gate_gradient, up_gradient};
  }
};

}  // namespace

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  DSFT_CHECK(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(), "swiglu of ", gate.sizes(), " and ",
             up.sizes());
  if (gate.is_cpu() && gate.scalar_type() != at::kDouble) return SwigluCpu::apply(gate.contiguous(), up.contiguous());
  return at::silu(gate) * up;
}

}  // namespace dsft::kernels
