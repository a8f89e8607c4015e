#include "kernels/swiglu.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <algorithm>

#include "kernels/cuda_tensors.h"
#include "kernels/float_types.h"
#include "kernels/swiglu_cpu.h"
#include "kernels/swiglu_cuda.h"

namespace dsft::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kGrain = 16384;  // elements that are worth a thread

// body(T{}, row) for the rows of a matrix, many at a time.
template <typename Body>
void for_each_row(const at::Tensor& matrix, Body body) {
  visit_float_type(matrix.scalar_type(), [&](auto type) {
    at::parallel_for(0, matrix.size(0), std::max<int64_t>(1, kGrain / matrix.size(1)), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(type, row);
    });
  });
}

void forward_cpu(const at::Tensor& gate_up, at::Tensor& y) {
  const int64_t size = y.size(1);
  for_each_row(gate_up, [&](auto type, int64_t row) {
    using T = decltype(type);
    const T* gate = gate_up.const_data_ptr<T>() + row * 2 * size;
    cpu::swiglu_elements<T>(gate, gate + size, y.data_ptr<T>() + row * size, 0, size);
  });
}

void backward_cpu(const at::Tensor& gradient, const at::Tensor& gate_up, at::Tensor& gate_up_gradient) {
  const int64_t size = gradient.size(1);
  for_each_row(gate_up, [&](auto type, int64_t row) {
    using T = decltype(type);
    const T* gate = gate_up.const_data_ptr<T>() + row * 2 * size;
    T* gate_gradient = gate_up_gradient.data_ptr<T>() + row * 2 * size;
    cpu::swiglu_backward_elements<T>(gradient.const_data_ptr<T>() + row * size, gate, gate + size, gate_gradient,
                                     gate_gradient + size, 0, size);
  });
}

class Swiglu : public torch::autograd::Function<Swiglu> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate_up) {
    const int64_t rows = gate_up.size(0), size = gate_up.size(1) / 2;
    at::Tensor y = at::empty({rows, size}, gate_up.options());
    if (gate_up.is_cpu())
      forward_cpu(gate_up, y);
    else
      cuda::swiglu(gate_up.const_data_ptr(), y.data_ptr(), rows, size, cuda::float_type(gate_up),
                   cuda::stream_for(gate_up));
    context->save_for_backward({gate_up});
    context->saved_data["is_leaf"] = gate_up.is_leaf();
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor gate_up = context->get_saved_variables()[0].detach(), gradient = gradients[0].contiguous();
    at::Tensor result = context->saved_data["is_leaf"].toBool() ? at::empty_like(gate_up) : gate_up;
    if (gate_up.is_cpu())
      backward_cpu(gradient, gate_up, result);
    else
      cuda::swiglu_backward(gradient.const_data_ptr(), gate_up.const_data_ptr(), result.data_ptr(), gate_up.size(0),
                            gate_up.size(1) / 2, cuda::float_type(gate_up), cuda::stream_for(gate_up));
    if (result.is_same(gate_up)) gate_up.unsafeGetTensorImpl()->bump_version();
    return {result};
  }
};

}  // namespace

at::Tensor swiglu(const at::Tensor& gate_up) {
  DSFT_CHECK(gate_up.dim() == 2 && gate_up.size(1) > 0 && gate_up.size(1) % 2 == 0, "swiglu of ", gate_up.sizes());
  const bool has_kernel = gate_up.is_cpu() ? gate_up.scalar_type() != at::kDouble : cuda::takes(gate_up);
  if (has_kernel) return Swiglu::apply(gate_up.contiguous());
  const auto halves = gate_up.chunk(2, 1);
  return at::silu(halves[0]) * halves[1];
}

}  // namespace dsft::kernels
